// Addresses as sockets want them.
#pragma once

#include <sys/socket.h>

#include <string>

struct Endpoint {
  sockaddr_storage address{};
  socklen_t length = 0;
  int family = 0;
};

// A numeric IPv4 or IPv6 address with a port. Ends the process when it is neither.
Endpoint endpoint(const std::string& host, int port);

// A socket of that type, bound to the port on all addresses of both families; listening if it is a stream.
int serve(int type, int port);
