/**
 * A libvirt domain as text with places: where each element begins and ends. What is changed is cut out and put in by offset, so all the
 * rest stays as it came, to the byte: comments, order, namespaces, elements of a newer libvirt.
 */
import { SaxesParser, type SaxesTagNS } from "saxes"
import { Refusal } from "../refusal.ts"

/** Deepest nesting that is followed; domains have some ten levels. */
const DEPTH_MAX = 100

export interface Element {
  /** Without prefix. */
  readonly name: string
  /** Of its namespace; "" for none. */
  readonly uri: string
  /** Attributes without namespace. */
  readonly attributes: ReadonlyMap<string, string>
  readonly children: readonly Element[]
  /** Offset of "<", and that behind the start tag. */
  readonly start: number
  readonly contentStart: number
  /** Offset of the end tag, and that behind it; of an empty element both are that behind it. */
  readonly contentEnd: number
  readonly end: number
  /** Written as `<x/>`. */
  readonly isEmptyTag: boolean
}

interface Open extends Element {
  readonly children: Element[]
  contentStart: number
  contentEnd: number
  end: number
  isEmptyTag: boolean
  attributes: ReadonlyMap<string, string>
  name: string
  uri: string
}

/** @returns the root element @throws Refusal if it is not well-formed, or not what a domain can be */
export function parseDocument(text: string): Element {
  const parser = new SaxesParser({ xmlns: true, position: true })
  const stack: Open[] = []
  let root: Open | undefined
  parser.on("error", (error) => {
    throw new Refusal(`the domain is not well-formed XML: ${error.message}`)
  })
  parser.on("xmldecl", ({ encoding }) => {
    if (encoding !== undefined && encoding.toLowerCase() !== "utf-8") {
      throw new Refusal(`the domain is in ${encoding} instead of UTF-8`)
    }
  })
  parser.on("doctype", () => {
    throw new Refusal("the domain has a document type, which could give its text another meaning")
  })
  parser.on("opentagstart", () => {
    if (stack.length >= DEPTH_MAX) throw new Refusal("the domain's elements are nested too deeply")
    // Names contain no "<": the last one before this position began the tag.
    const start = text.lastIndexOf("<", parser.position - 1)
    const children: Element[] = []
    const attributes = new Map<string, string>()
    const element = { name: "", uri: "", attributes, children, start, isEmptyTag: false }
    stack.push({ ...element, contentStart: 0, contentEnd: 0, end: 0 })
  })
  parser.on("opentag", (tag: SaxesTagNS) => {
    const element = stack.at(-1)!
    element.name = tag.local
    element.uri = tag.uri
    element.isEmptyTag = tag.isSelfClosing
    element.contentStart = parser.position
    const plain = Object.values(tag.attributes).filter(({ uri }) => uri === "")
    element.attributes = new Map(plain.map(({ local, value }) => [local, value]))
  })
  parser.on("closetag", () => {
    const element = stack.pop()!
    element.end = parser.position
    element.contentEnd = element.isEmptyTag ? element.end : text.lastIndexOf("</", parser.position - 1)
    const parent = stack.at(-1)
    if (parent === undefined) root = element
    else parent.children.push(element)
  })
  parser.write(text).close()
  if (root === undefined) throw new Refusal("the domain is empty")
  return root
}

/** Children of libvirt's own vocabulary. */
export function childrenNamed(element: Element, name: string): Element[] {
  return element.children.filter((child) => child.name === name && child.uri === "")
}

/** @returns the child, or undefined @throws Refusal if there are several */
export function onlyChild(element: Element, name: string): Element | undefined {
  const [child, second] = childrenNamed(element, name)
  if (second !== undefined) throw new Refusal(`the domain's <${element.name}> has more than one <${name}>`)
  return child
}

/** A piece of the text, and what comes in its place. */
export interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** Edits do not overlap; those at one place come in their order. */
export function applyEdits(text: string, edits: readonly Edit[]): string {
  let result = ""
  let position = 0
  for (const edit of edits.toSorted((a, b) => a.start - b.start)) {
    if (edit.start < position) throw new Error("edits overlap")
    result += text.slice(position, edit.start) + edit.text
    position = edit.end
  }
  return result + text.slice(position)
}

/** White space between the node before an element and its "<". */
function whiteBefore(text: string, offset: number): string {
  let start = offset
  while (start > 0 && " \t\r\n".includes(text[start - 1]!)) start--
  return text.slice(start, offset)
}

/** Puts an element before another one, indented alike. */
export function insertBefore(text: string, sibling: Element, xml: string): Edit {
  return { start: sibling.start, end: sibling.start, text: xml + whiteBefore(text, sibling.start) }
}

/** Puts elements behind the last child of another one, indented like that. @param name as it is written in the text */
export function appendChildren(text: string, parent: Element, name: string, xmls: readonly string[]): Edit {
  if (parent.isEmptyTag) {
    const slash = text.lastIndexOf("/", parent.end)
    return { start: slash, end: parent.end, text: `>${xmls.join("")}</${name}>` }
  }
  const last = parent.children.at(-1)
  const place = last?.end ?? parent.contentStart
  const white = last === undefined ? "" : whiteBefore(text, last.start)
  return { start: place, end: place, text: xmls.map((xml) => white + xml).join("") }
}

export function escapeAttribute(value: string): string {
  return value.replace(/[&<>'"]/g, (character) => `&#${character.charCodeAt(0)};`)
}

/** An element's text: attributes that are null are left out. */
export function element(
  name: string,
  attributes: Readonly<Record<string, string | number | null>>,
  children: readonly string[] = [],
): string {
  const words = Object.entries(attributes).filter(([, value]) => value !== null)
  const tag = [name, ...words.map(([key, value]) => `${key}='${escapeAttribute(String(value))}'`)].join(" ")
  return children.length === 0 ? `<${tag}/>` : `<${tag}>${children.join("")}</${name}>`
}
