// UDP: floods of small datagrams, counted where they arrive, and transactions.
#pragma once

#include "address.h"

// Counts datagrams that arrive at the socket. Does not return.
[[noreturn]] void serveUdpSink(int fd);

// Sends each datagram back to where it came from. Does not return.
[[noreturn]] void serveUdpEcho(int fd);

// Sends datagrams of `bytes` from one socket: as many as it can, or `perSecond` of them when that is not 0.
[[noreturn]] void sendUdpFlood(const Endpoint& to, size_t bytes, double perSecond);

// A datagram of `bytes`, its echo, again and again; counts transactions. A lost one is sent again after 100 ms.
[[noreturn]] void runUdpTransactions(const Endpoint& to, size_t bytes);
