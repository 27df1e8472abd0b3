/** Reading and writing what driver and device share. */
#pragma once

#include <cstdint>

inline uint16_t loadWord(const uint8_t* at, int order = __ATOMIC_RELAXED) {
  const auto* const word = reinterpret_cast<const uint16_t*>(at);
  return order == __ATOMIC_ACQUIRE ? __atomic_load_n(word, __ATOMIC_ACQUIRE) : __atomic_load_n(word, __ATOMIC_RELAXED);
}
inline void storeWord(uint8_t* at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), value, __ATOMIC_RELAXED);
}
inline void releaseWord(uint8_t* at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), value, __ATOMIC_RELEASE);
}
/** Between what we have written and what the device says about notifications (VIRTIO 1.2 section 2.7.13.4.1), and the other way around. */
inline void fullFence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/** Whether an event that was waited for lies between two states of an index (section 2.7.10). */
inline bool hasPassed(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);
}
