/** The public surface: passt in your program. */
export type { Capture, CaptureOptions } from "./capture.ts"
export type { ForwardConfig, GuestLink, NetworkConfig } from "./config.ts"
export { ConfigError, EngineError } from "./config-error.ts"
export {
  createEngine,
  type Engine,
  type EngineConfig,
  type EngineState,
  type EngineStats,
  startEngine,
} from "./engine.ts"
export { CHANNELS, type EngineEvent, type EngineEvents, type Flow } from "./events.ts"
export type { FlowList } from "./flows.ts"
export type { Forward } from "./forwards.ts"
export { GuestSocket } from "./guest-socket.ts"
export { MemoryLink } from "./memory-link.ts"
export { type CapturedFrame, captureBlock, captureHeader, readCapture } from "./pcapng.ts"
export type { FlowDecision, FlowHandler, PolicyConfig, Service, ServiceConfig, StreamHandler } from "./policy.ts"
export type { Decision, FlowQuestion, RateLimit, RefuseWith } from "@passt/core"
export type { FlowClass, FlowEnd, FlowState, FlowView, LogLevel } from "@passt/core"
