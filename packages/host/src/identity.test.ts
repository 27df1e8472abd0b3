import { describe, expect, it } from "vitest"
import type { Accounts } from "./identity.ts"
import { chooseIdentity, parseRunas } from "./identity.ts"

const USERS: Record<string, { uid: number; gid: number }> = {
  root: { uid: 0, gid: 0 },
  alice: { uid: 1000, gid: 100 },
  nobody: { uid: 65534, gid: 65534 },
}
const accounts: Accounts = {
  lookupUser: (name) => USERS[name],
  lookupGroup: (name) => (name === "kvm" ? 107 : undefined),
}

describe("parseRunas", () => {
  it.each([
    ["1001", 1001, 1001],
    ["1001:7", 1001, 7],
    ["alice", 1000, 100],
    ["alice:kvm", 1000, 107],
    ["alice:7", 1000, 7],
    ["1001:kvm", 1001, 107],
    ["0", 0, 0],
    ["4294967294", 4294967294, 4294967294],
  ])("%s", (text, uid, gid) => expect(parseRunas(text, accounts)).toEqual({ uid, gid }))

  it.each(["", ":", "alice:", ":kvm", "root", "root:kvm", "bob", "alice:none", "1:2:3", "-1", "4294967295", "1 "])(
    "refuses %j",
    (text) => expect(parseRunas(text, accounts)).toBeUndefined(),
  )
})

describe("chooseIdentity", () => {
  it("leaves ordinary users and root of a user namespace alone", () => {
    expect(chooseIdentity(undefined, false, accounts)).toEqual({})
  })
  it("gives up root of the machine with a warning", () => {
    const expected = { identity: USERS["nobody"], warning: "Started as root, will change to nobody." }
    expect(chooseIdentity(undefined, true, accounts)).toEqual(expected)
    const bare: Accounts = { lookupUser: () => undefined, lookupGroup: () => undefined }
    expect(chooseIdentity(undefined, true, bare)).toEqual(expected)
  })
  it("does what it is told, or says that it can't", () => {
    expect(chooseIdentity("0:0", true, accounts)).toEqual({ identity: { uid: 0, gid: 0 } })
    expect(chooseIdentity("alice", false, accounts)).toEqual({ identity: USERS["alice"] })
    expect(chooseIdentity("bob", true, accounts)).toEqual({ error: "Invalid --runas option: bob" })
  })
})
