/**
 * What is not understood or not possible, said in one sentence: it becomes the gRPC error's message, and virt-launcher shows it in
 * the event of the virtual machine.
 */
export class Refusal extends Error {
  override readonly name = "Refusal"
}
