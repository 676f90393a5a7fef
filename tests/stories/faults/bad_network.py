"""A bad network on this machine: a TUN device whose packets come back late, or not at all, or twice, or out of order.

What is sent to 198.18.N.2 arrives at 198.18.N.1, on the same port, and what is answered goes the same way. Exchanging the
two addresses of a packet leaves its checksums valid. Needs root. Ends with its standard input.

Arguments: N, seed.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time

DELAY = 0.050
JITTER = 0.030
LOSS = 0.01
TWICE = 0.01
# Sent at once, before those that wait.
OVERTAKING = 0.05

TUNSETIFF = 0x400454CA
TUN_WITHOUT_HEADER = 0x0001 | 0x1000


def open_device(name: str, address: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), TUN_WITHOUT_HEADER))
    subprocess.run(["ip", "address", "add", f"{address}/30", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    return device


def delays(chance: random.Random) -> list[float]:
    """The delay of each copy of a packet that arrives."""
    if chance.random() < LOSS:
        return []
    copies = 2 if chance.random() < TWICE else 1
    if chance.random() < OVERTAKING:
        return [0.0] * copies
    return [chance.uniform(DELAY - JITTER, DELAY + JITTER) for _ in range(copies)]


def relay(device: int, chance: random.Random) -> None:
    waiting: list[tuple[float, int, bytes]] = []
    count = 0
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select([device, sys.stdin], [], [], pause)
        if sys.stdin in readable:
            return
        if device in readable:
            packet = os.read(device, 65536)
            if packet[0] >> 4 == 4:
                packet = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
                for delay in delays(chance):
                    count += 1
                    heapq.heappush(waiting, (time.monotonic() + delay, count, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            os.write(device, heapq.heappop(waiting)[2])


def main() -> None:
    number, seed = sys.argv[1:]
    device = open_device(f"parlance{number}", f"198.18.{number}.1")
    print("ready", flush=True)
    relay(device, random.Random(int(seed)))


if __name__ == "__main__":
    main()
