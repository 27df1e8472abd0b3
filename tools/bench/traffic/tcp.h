// TCP: bulk data and transactions. Each connection has a thread of its own.
#pragma once

#include "address.h"

// Accepts connections and throws away what they bring, counting bytes. Does not return.
[[noreturn]] void serveTcpSink(int listener);

// Accepts connections, up to 64 at a time, and sends back what they bring, until each ends. Does not return.
[[noreturn]] void serveTcpEcho(int listener);

// Sends in calls of `bytes` until the other end closes.
void sendTcpBulk(const Endpoint& to, size_t bytes);

// One connection: a request of `bytes`, the same number back, again and again; counts transactions.
void runTcpTransactions(const Endpoint& to, size_t bytes);

// A connection per transaction: connect, request, response, close; counts transactions.
void runTcpConnections(const Endpoint& to, size_t bytes);

// Accepts connections and sends in calls of `bytes` until each ends. Does not return.
[[noreturn]] void serveTcpSource(int listener, size_t bytes);

// One connection: throws away what it brings, counting bytes, until the other end closes.
void runTcpGet(const Endpoint& to);

// `connections` at once, again and again: all connect, each sends a byte and waits for one back, then all close; counts
// connections, and takes the time of each burst as a latency.
void runTcpBursts(const Endpoint& to, int connections);
