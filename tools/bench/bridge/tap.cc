#include "tap.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

void fail(const std::string& what) {
  if (errno != 0) {
    fprintf(stderr, "bridge: %s: %s\n", what.c_str(), strerror(errno));
  } else {
    fprintf(stderr, "bridge: %s\n", what.c_str());
  }
  // The other direction may be in the middle of a write: leave at once, without running destructors.
  _exit(1);
}

void enterNetworkNamespace(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("network namespace " + path);
  if (setns(fd, CLONE_NEWNET) != 0) fail("entering network namespace " + path);
  close(fd);
}

static ifreq request(const std::string& name) {
  ifreq request{};
  strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  return request;
}

static void setMac(int control, const std::string& name, const std::string& text) {
  ifreq mac = request(name);
  unsigned int octet[6];
  char rest;
  if (sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%c", &octet[0], &octet[1], &octet[2], &octet[3], &octet[4],
             &octet[5], &rest) != 6) {
    errno = 0;
    fail("not a MAC address: " + text);
  }
  mac.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  for (int index = 0; index < 6; index++) mac.ifr_hwaddr.sa_data[index] = static_cast<char>(octet[index]);
  if (ioctl(control, SIOCSIFHWADDR, &mac) != 0) fail("setting the MAC address");
}

int openTap(const TapOptions& options) {
  const int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (tap < 0) fail("/dev/net/tun");

  ifreq create = request(options.name);
  create.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (options.napi) create.ifr_flags |= IFF_NAPI;
  if (options.headerBytes > 0) create.ifr_flags |= IFF_VNET_HDR;
  if (options.severalQueues) create.ifr_flags |= IFF_MULTI_QUEUE;
  if (ioctl(tap, TUNSETIFF, &create) != 0) fail("creating tap " + options.name);
  if (options.headerBytes > 0) {
    int header = options.headerBytes;
    if (ioctl(tap, TUNSETVNETHDRSZ, &header) != 0) fail("setting the length of virtio's header");
    if (ioctl(tap, TUNSETOFFLOAD, options.offloads) != 0) fail("setting the tap's offloads");
  }
  const std::string name = create.ifr_name;

  const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) fail("control socket");
  if (!options.mac.empty()) setMac(control, name, options.mac);

  ifreq mtu = request(name);
  mtu.ifr_mtu = options.mtu;
  if (ioctl(control, SIOCSIFMTU, &mtu) != 0) fail("setting the MTU");

  if (options.txQueueLength >= 0) {
    ifreq queue = request(name);
    queue.ifr_qlen = options.txQueueLength;
    if (ioctl(control, SIOCSIFTXQLEN, &queue) != 0) fail("setting the queue length");
  }

  ifreq up = request(name);
  if (ioctl(control, SIOCGIFFLAGS, &up) != 0) fail("reading the interface flags");
  up.ifr_flags |= IFF_UP;
  if (ioctl(control, SIOCSIFFLAGS, &up) != 0) fail("bringing the interface up");
  close(control);
  return tap;
}
