// rootlesskit, which Docker's and nerdctl's rootless modes run on, with our pasta in place of slirp4netns or another.
import { afterAll, beforeAll, expect, test } from "vitest"
import { startMachine } from "../../tools/debian/machine.ts"
import type { Machine } from "../../tools/debian/machine.ts"
import { givenTree } from "../../tools/debian/tree.ts"
import { HOST, PAGE, SERVER } from "../../tools/world/addresses.ts"
import { ask } from "../../tools/world/ask.ts"
import { ended, start, until } from "../../tools/world/process.ts"
import { createWorld } from "../../tools/world/world.ts"
import type { World } from "../../tools/world/world.ts"

let world: World
let machine: Machine
beforeAll(async () => {
  world = await createWorld()
  machine = await startMachine(givenTree("trixie"), world.host)
})
afterAll(async () => {
  machine?.close()
  await world?.close()
})

/** Serves a page until its standard input ends. With a network namespace apart, the program itself is not in it. */
const SCRIPT = `
in=; if [ -e "$ROOTLESSKIT_STATE_DIR/netns" ]; then in="nsenter --net=$ROOTLESSKIT_STATE_DIR/netns"; fi
$in ip -o -4 address show tap0
$in busybox wget -qO- http://${SERVER.ipv4}/
$in busybox nslookup ${SERVER.name} 10.0.2.3
mkdir /tmp/www
echo "from rootlesskit" >/tmp/www/index.html
$in busybox httpd -f -p 8099 -h /tmp/www &
read line
kill $!
rm -r /tmp/www`

test.each([[[]], [["--detach-netns"]]])("online both ways %s", async (more: string[]) => {
  const pasta = ["--net=pasta", "--pasta-binary=/opt/passt/bin/pasta", "--port-driver=implicit"]
  const command = ["rootlesskit", ...pasta, "--copy-up=/etc", "--disable-host-loopback", ...more, "sh", "-c", SCRIPT]
  const child = start(machine.asUser(command), { stdio: ["pipe", "pipe", "pipe"] })
  let said = ""
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => (said += chunk.toString()))
  try {
    await until("the page", 15_000, async () => {
      if (child.exitCode !== null) throw new Error(`rootlesskit ended: ${said}`)
      for (const address of ["127.0.0.1", HOST.ipv4]) {
        if ((await ask(world.host, "http", `http://${address}:8099/`)).text !== "from rootlesskit\n") return false
      }
      return true
    })
    expect(said).toContain("tap0    inet 10.0.2.100/24")
    expect(said).toContain(PAGE)
    expect(said).toContain(`Address: ${SERVER.ipv4}`)
    child.stdin!.end()
    expect(await ended(child, 5000)).toBe(true)
    expect(child.exitCode).toBe(0)
  } finally {
    child.kill("SIGKILL")
  }
  // What it published goes with it.
  const { error } = await ask(world.host, "http", "http://127.0.0.1:8099/")
  expect(error).toBe("ECONNREFUSED")
})
