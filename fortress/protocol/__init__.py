"""Bytes to messages and back: frames, the sealed channel, the login proof, one session's states on both sides.

For: `server` and `client`, which move the bytes this room makes and takes.
Knows: the layout of frames and pieces, Noise NX, the Schnorr login, a bank's certificate, the typed messages.
Does not know: sockets, clocks, randomness (time and entropy are arguments), storage, any rule of the bank.
"""
