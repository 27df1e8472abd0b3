/** virt-launcher's side of the hooks: a gRPC client over the .proto files, as KubeVirt's own is made from its. */
import { join } from "node:path"
import { credentials, loadPackageDefinition, type ServiceError } from "@grpc/grpc-js"
import { loadSync } from "@grpc/proto-loader"

const PROTO = join(import.meta.dirname, "../../../proto")

const loaded = loadPackageDefinition(
  loadSync(
    ["hooks-info", "hooks-v1alpha1", "hooks-v1alpha2", "hooks-v1alpha3", "plugins-v1alpha1"].map(
      (name) => `${name}.proto`,
    ),
    { includeDirs: [PROTO], keepCase: true, defaults: true },
  ),
)

/** Calls a method on a socket, over a connection of its own, as virt-launcher does.
 * @param path as "kubevirt.hooks.info.Info/Info" @throws Error with gRPC's code and details */
export function call<Response>(socket: string, path: string, request: object = {}): Promise<Response> {
  const [service = "", method = ""] = path.split("/")
  // oxlint-disable-next-line typescript/no-explicit-any -- made from files when the test runs
  const Client = service.split(".").reduce((each: any, name) => each[name], loaded)
  const client = new Client(`unix:${socket}`, credentials.createInsecure(), { "grpc.default_authority": "localhost" })
  return new Promise<Response>((resolve, reject) => {
    const deadline = Date.now() + 60_000
    client[method](request, { deadline }, (error: ServiceError | null, response: Response) => {
      client.close()
      if (error === null) resolve(response)
      else reject(error)
    })
  })
}
