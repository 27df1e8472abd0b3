/** The public surface of the flow engine. */
export * from "./errno.ts"
export { finishRow } from "./finish.ts"
export * from "./frames.ts"
export * from "./guest.ts"
export * from "./kernel.ts"
export * from "./limits.ts"
export type * from "./link.ts"
export * from "./area-link.ts"
export * from "./no-link.ts"
export type * from "./responder.ts"
export * from "./send-area.ts"
export * from "./describe-flow.ts"
export {
  compilePolicy,
  type CompiledPolicy,
  parsePolicy,
  POLICY_TEXT_MAX,
  type PolicyDocument,
  writeRule,
} from "./policy/document.ts"
export { PolicyError } from "./policy/error.ts"
export { BY_DEFAULT, BY_DNS, BY_FUNCTION, type Gate } from "./policy/gate.ts"
export { DIRECTION_IN, DIRECTION_OUT, Matcher, NO_RULE, PROTOCOLS } from "./policy/matcher.ts"
export type * from "./policy/rule.ts"
export type { RuleChange } from "./forward/change.ts"
export type { RulesUpdate } from "./forward/update.ts"
export type * from "./forward/rule.ts"
export * from "./forward/translate.ts"
export * from "./stats.ts"
export type { EngineConfig, LogLevel, Neighbours, SpliceConfig } from "./context.ts"
export { REF_EXTERNAL, REF_INDEX_MASK, REF_LINK, REF_SHIFT } from "./context.ts"
export {
  KIND_GROUP,
  KIND_PING,
  KIND_TCP,
  KIND_TCP_SPLICE,
  KIND_UDP,
  KIND_UDP_SPLICE_IN,
  KIND_UDP_SPLICE_OUT,
} from "./flow/table.ts"
export * from "./live/latency.ts"
export { Engine, type Reconfiguration } from "./engine.ts"
export type { FlowClass, FlowEnd, FlowPolicy, FlowState, FlowView } from "./live/flows.ts"
