import { describe, expect, it } from "vitest"
import { ServiceManager } from "./notify.ts"

const EAGAIN = 11

function told(environment: Record<string, string>, pid: number, launcherPid = 0, refusals = 0): string[] {
  const said: string[] = []
  let left = refusals
  const manager = new ServiceManager(
    { environment, pid, launcherPid },
    {
      syslogOpen: (path) => {
        said.push(path)
        return 1_000_000
      },
      syslogSend: (_fd, bytes, length) => {
        if (left-- > 0) return -EAGAIN
        return said.push(Buffer.from(bytes.subarray(0, length)).toString())
      },
    },
  )
  manager.ready("Serving guests")
  return said
}

describe("ServiceManager", () => {
  const READY = "READY=1\nMAINPID=7\nSTATUS=Serving guests\n"
  it("tells the socket that is named, by path or abstract", () => {
    for (const path of ["/run/systemd/notify", "@abstract"]) {
      expect(told({ NOTIFY_SOCKET: path, SYSTEMD_EXEC_PID: "7" }, 7)).toEqual([path, READY])
    }
  })
  it("in the background, where the service manager started the launcher", () => {
    expect(told({ NOTIFY_SOCKET: "/n", SYSTEMD_EXEC_PID: "6" }, 7, 6)).toEqual(["/n", READY])
  })
  it("says nothing where the variable was meant for another process", () => {
    expect(told({ NOTIFY_SOCKET: "/n", SYSTEMD_EXEC_PID: "5" }, 7, 6)).toEqual([])
    expect(told({ NOTIFY_SOCKET: "/n" }, 7, 6)).toEqual([])
    expect(told({ NOTIFY_SOCKET: "/n" }, 7)).toEqual(["/n", READY])
  })
  it("says nothing without a socket, or with another kind of address", () => {
    expect(told({}, 7)).toEqual([])
    for (const path of ["", "/", "vsock:2:9999", "relative"]) expect(told({ NOTIFY_SOCKET: path }, 7)).toEqual([])
  })
  it("waits for a full queue, but not for ever", () => {
    expect(told({ NOTIFY_SOCKET: "/n" }, 7, 0, 3)).toEqual(["/n", READY])
    expect(told({ NOTIFY_SOCKET: "/n" }, 7, 0, 1000)).toEqual(["/n"])
  })
})
