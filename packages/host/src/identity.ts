/** Which user the program runs as: never root of the machine, unless that is what the user insists on. */

export interface Identity {
  readonly uid: number
  readonly gid: number
}

/** The system's user and group database, by @passt/native's functions of these names. */
export interface Accounts {
  lookupUser(name: string): Identity | undefined
  lookupGroup(name: string): number | undefined
}

/** The overflow id, which is nobody's on every Linux system (user_namespaces(7)). */
const NOBODY = 65534
/** 2^32 - 1 means "no id" to the kernel. */
const ID_MAX = 0xfffffffe

function numericId(text: string): number | undefined {
  if (!/^\d{1,10}$/.test(text)) return undefined
  const id = Number(text)
  return id <= ID_MAX ? id : undefined
}

/** Parses UID[:GID] or LOGIN[:GROUP], numbers and names mixed as liked. Without group: the login's own group, or for a number the
 * group of the same number.
 * @returns the ids; undefined for unknown names, and for a login that is root's (its number 0 is accepted: that is explicit) */
export function parseRunas(text: string, accounts: Accounts): Identity | undefined {
  const parts = text.split(":")
  const [user, group] = parts
  if (parts.length > 2 || !user || group === "") return undefined
  let identity: Identity | undefined
  const uid = numericId(user)
  if (uid !== undefined) identity = { uid, gid: uid }
  else {
    identity = accounts.lookupUser(user)
    if (identity?.uid === 0) return undefined
  }
  if (!identity || group === undefined) return identity
  const gid = numericId(group) ?? accounts.lookupGroup(group)
  return gid === undefined ? undefined : { uid: identity.uid, gid }
}

/** The identity to change to, if any.
 * @param runas what the user asked for, not parsed @param root whether we are root of the whole machine
 * @returns `error` for a request that can't be met, `warning` when root is given up unasked; both one line */
export function chooseIdentity(
  runas: string | undefined,
  root: boolean,
  accounts: Accounts,
): { readonly identity?: Identity; readonly warning?: string; readonly error?: string } {
  if (runas !== undefined) {
    const identity = parseRunas(runas, accounts)
    return identity ? { identity } : { error: `Invalid --runas option: ${runas}` }
  }
  if (!root) return {}
  return {
    identity: accounts.lookupUser("nobody") ?? { uid: NOBODY, gid: NOBODY },
    warning: "Started as root, will change to nobody.",
  }
}
