/** The services, as proto/*.proto define them: paths of methods, and messages by field numbers. */
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js"
import { bytesField, bytesOf, decodeFields } from "./wire.ts"

export interface InfoResult {
  readonly name: string
  readonly versions: readonly string[]
  readonly hookPoints: readonly string[]
}

export interface DefineParams {
  readonly domain: Buffer
  readonly vmi: Buffer
}

export interface CloudInitParams {
  readonly noCloudSource: Buffer
  readonly cloudInitData: Buffer
}

export interface MutateRequest {
  readonly domainType: string
  readonly domain: Buffer
  readonly vmi: Buffer
  readonly invocation: string
}

function method<Request, Response>(
  path: string,
  decode: (bytes: Buffer) => Request,
  encode: (response: Response) => Buffer,
): MethodDefinition<Request, Response> {
  return {
    path,
    requestStream: false,
    responseStream: false,
    requestDeserialize: decode,
    responseSerialize: encode,
    // The other direction is a client's.
    requestSerialize: () => Buffer.alloc(0),
    responseDeserialize: () => {
      throw new Error(`${path}: only served`)
    },
  }
}

const nothing = (): object => ({})
const empty = (): Buffer => Buffer.alloc(0)

export const INFO_SERVICE: ServiceDefinition = {
  Info: method("/kubevirt.hooks.info.Info/Info", nothing, ({ name, versions, hookPoints }: InfoResult) =>
    Buffer.concat([
      bytesField(1, name),
      // Priority (2) is 0, which is not written.
      ...hookPoints.map((point) => bytesField(3, bytesField(1, point), true)),
      ...versions.map((version) => bytesField(4, version, true)),
    ]),
  ),
}

/** Hook points by version: each has those of the one before. */
export const CALLBACK_VERSIONS: readonly (readonly [string, readonly string[]])[] = [
  ["v1alpha1", ["OnDefineDomain"]],
  ["v1alpha2", ["OnDefineDomain", "PreCloudInitIso"]],
  ["v1alpha3", ["OnDefineDomain", "PreCloudInitIso", "Shutdown"]],
]

function decodeDefine(bytes: Buffer): DefineParams {
  const fields = decodeFields(bytes)
  return { domain: bytesOf(fields, 1), vmi: bytesOf(fields, 2) }
}

function decodeCloudInit(bytes: Buffer): CloudInitParams {
  const fields = decodeFields(bytes)
  return { noCloudSource: bytesOf(fields, 1), cloudInitData: bytesOf(fields, 3) }
}

export function callbackService(version: string, points: readonly string[]): ServiceDefinition {
  const path = (name: string): string => `/kubevirt.hooks.${version}.Callbacks/${name}`
  const all: ServiceDefinition = {
    OnDefineDomain: method(path("OnDefineDomain"), decodeDefine, (domain: Buffer) => bytesField(1, domain)),
    PreCloudInitIso: method(path("PreCloudInitIso"), decodeCloudInit, (data: CloudInitParams) =>
      Buffer.concat([bytesField(1, data.noCloudSource), bytesField(3, data.cloudInitData)]),
    ),
    Shutdown: method(path("Shutdown"), nothing, empty),
  }
  return Object.fromEntries(points.map((point) => [point, all[point]!]))
}

export const DOMAIN_HOOK_SERVICE: ServiceDefinition = {
  MutateDomain: method(
    "/kubevirt.hooks.plugins.v1alpha1.DomainHookService/MutateDomain",
    (bytes): MutateRequest => {
      const fields = decodeFields(bytes)
      return {
        domainType: bytesOf(fields, 1).toString(),
        domain: bytesOf(fields, 2),
        vmi: bytesOf(fields, 3),
        invocation: bytesOf(decodeFields(bytesOf(fields, 4)), 1).toString(),
      }
    },
    (domain: Buffer) => bytesField(1, domain),
  ),
}
