"""Moves random bytes over TCP both ways, and compares what was sent with what has come.

peer.py serve ADDRESS PORT STREAMS    answers so many connections, then ends
peer.py talk ADDRESS PORT STREAMS MIB for each: sends MIB, is told their hash; then the other way round
"""
import hashlib
import os
import socket
import sys
import threading

BLOCK = 1 << 20


def send(connection, mib):
    """Sends so many MiB; the peer must answer with their hash."""
    digest = hashlib.sha256()
    block = bytearray(os.urandom(BLOCK))
    for count in range(mib):
        block[:8] = count.to_bytes(8, "big")
        digest.update(block)
        connection.sendall(block)
    answer = b""
    while len(answer) < digest.digest_size:
        answer += connection.recv(digest.digest_size) or sys.exit("closed early")
    return answer == digest.digest()


def receive(connection, mib):
    """Takes so many MiB and answers with their hash."""
    digest = hashlib.sha256()
    left = mib * BLOCK
    while left:
        data = connection.recv(min(left, BLOCK))
        if not data:
            sys.exit("closed early")
        digest.update(data)
        left -= len(data)
    connection.sendall(digest.digest())


def serve(connection):
    mib = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
    receive(connection, mib)
    connection.sendall(b"+" if send(connection, mib) else b"-")
    connection.close()


def talk(address, port, mib, wrong):
    connection = socket.create_connection((address, port))
    connection.sendall(mib.to_bytes(4, "big"))
    if not send(connection, mib):
        wrong.append("what the guest sent")
    receive(connection, mib)
    if connection.recv(1) != b"+":
        wrong.append("what the host sent")


role, address, port, streams = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
wrong = []
if role == "serve":
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.create_server((address, port), family=family)
    print("ready", flush=True)
    work = [threading.Thread(target=serve, args=(server.accept()[0],)) for _ in range(streams)]
else:
    arguments = (address, port, int(sys.argv[5]), wrong)
    work = [threading.Thread(target=talk, args=arguments) for _ in range(streams)]
for thread in work:
    thread.start()
for thread in work:
    thread.join()
sys.exit(f"not intact: {wrong}" if wrong else 0)
