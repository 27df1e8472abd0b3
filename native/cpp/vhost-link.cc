/**
 * The guest behind vhost-user: its memory is mapped here, and frames are exchanged through its virtqueues, behind virtio's
 * header (vnet-header.h), as over a tap: super-frames whatever the MTU, and checksums that nobody computes.
 *
 * ```
 *   transmit queues   chains → receive area   [ frame ][ headers ] …      of large segments the payload stays, until it was sent
 *   send area         [ frame ][ headers ] …    → chains of the receive queues, several for one frame if the driver knows how
 * ```
 *
 * Life of a buffer: `Ring::take` copies its descriptors and looks their addresses up; bytes are copied out or in, here or by the kernel
 * (vhost-held.cc, vhost-lent.cc); `giveBack` puts it into the used ring; `publish` shows all of a batch at once, and wakes the driver if it
 * wants to be. No buffer is kept beyond a turn: so a ring can stop at any moment between two of them, and nothing is in flight that a
 * reconnect could lose.
 *
 * The driver's kicks are watched edge-triggered, and their counters never read. While a batch is being taken, no kicks are wanted; then
 * they are wanted again, and the ring is looked at once more. Receive queues are watched too, but kicks are only asked for while frames wait
 * because there are no buffers: `blocked`, as on a full socket.
 *
 * What the driver does not take (no GUEST_CSUM, no GUEST_TSO) is finished and cut by transmit.h, frame by frame.
 *
 * The other half is packages/transport-vhost, which speaks the protocol and calls what vhost-device.cc defines.
 * Reads first: VIRTIO 1.2 sections 2.7 and 5.1.6; vhost-ring.h, vhost-memory.h.
 */
#include "vhost-link.h"

#include <cerrno>
#include <new>

namespace passt {

/** createVhostLink(state, message, reply): an object with the calls of one link, or -errno. */
static napi_value createVhostLink(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& engine = in.self<Engine>();
  size_t length[3] = {};
  auto* state = static_cast<int32_t*>(in.bytes(0, &length[0]));
  auto* message = static_cast<uint8_t*>(in.bytes(1, &length[1]));
  auto* reply = static_cast<uint8_t*>(in.bytes(2, &length[2]));
  if (!state || length[0] < stateWords * sizeof *state) return in.result(-EINVAL);
  if (!message || length[1] < VhostChannel::messageMax) return in.result(-EINVAL);
  if (!reply || length[2] < VhostChannel::messageMax) return in.result(-EINVAL);
  if (engine.sourceCount == sourceMax) return in.result(-EMFILE);
  for (size_t i = 0; i < 3; i++) {
    napi_ref reference = nullptr;
    if (napi_create_reference(env, in.at(i), 1, &reference) != napi_ok) return in.result(-EINVAL);
  }
  auto* link = new (std::nothrow) VhostLink(engine, state, message, reply, engine.sourceCount);
  if (!link) return in.result(-ENOMEM);
  const int32_t error = link->memory.reserve();
  if (error) {
    delete link;
    return in.result(error);
  }
  engine.sourceCount++;
  engine.own(link);

  napi_value object = nullptr;
  napi_create_object(env, &object);
  defineConnection(env, object, link);
  defineDevice(env, object, link);
  defineMigration(env, object, link);
  defineReceive(env, object, link);
  defineSend(env, object, link);
  defineLent(env, object, link);
  return object;
}

void bindVhostLink(napi_env env, napi_value object, Engine* engine) {
  define(env, object, "createVhostLink", createVhostLink, engine);
}

}  // namespace passt
