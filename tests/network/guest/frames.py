# Ethernet frames by hand, for programs that run with --privileged.


class Link:
    def __init__(self):
        self.name = next(n for _, n in socket.if_nameindex() if n != "lo")
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((self.name, 0))
        with open(f"/sys/class/net/{self.name}/address") as file:
            self.own = bytes.fromhex(file.read().strip().replace(":", ""))
        self.gateway = self.find_gateway()

    def find_gateway(self):
        tcp(GATEWAY, 1)
        with open("/proc/net/arp") as file:
            line = next(line for line in file if line.startswith(GATEWAY + " "))
        return bytes.fromhex(line.split()[3].replace(":", ""))

    def send(self, packet, kind=0x0800, source=None, target=None):
        frame = (target or self.gateway) + (source or self.own) + struct.pack(">H", kind) + packet
        self.socket.send(frame)

    def heard(self, wanted, limit=2.0):
        """How many frames that satisfy `wanted` come within the time."""
        count, end = 0, time.monotonic() + limit
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame, address = self.socket.recvfrom(65535)
            except TimeoutError:
                break
            if address[2] != socket.PACKET_OUTGOING and wanted(frame):
                count += 1
        return count


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def packed(address):
    return socket.inet_pton(family(address), address)


def ipv4(source, target, protocol, payload, offset=0, more=False, number=7):
    flags = (0x2000 if more else 0) | offset // 8
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), number, flags, 64, protocol, 0)
    head += packed(source) + packed(target)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def ipv6(source, target, protocol, payload):
    head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 255)
    return head + packed(source) + packed(target) + payload


def segment(source, target, port, flags=2, source_port=40000, payload=b"", sequence=1):
    """A TCP segment; a SYN unless told otherwise."""
    head = struct.pack(">HHIIBBHHH", source_port, port, sequence, 0, 5 << 4, flags, 65535, 0, 0)
    pseudo = packed(source) + packed(target)
    pseudo += struct.pack(">BBH", 0, 6, len(head) + len(payload)) if len(pseudo) == 8 else \
        struct.pack(">IBBBB", len(head) + len(payload), 0, 0, 0, 6)
    return head[:16] + struct.pack(">H", checksum(pseudo + head + payload)) + head[18:] + payload


def icmpv6(source, target, kind, body):
    message = struct.pack(">BBH", kind, 0, 0) + body
    pseudo = packed(source) + packed(target) + struct.pack(">IBBBB", len(message), 0, 0, 0, 58)
    return message[:2] + struct.pack(">H", checksum(pseudo + message)) + message[4:]
