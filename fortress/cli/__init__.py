"""The command line: what people type, and what they see.

This room turns words into calls of the other rooms and their answers into tables, JSON and exit codes. It knows every
room, each only inside the command that needs it, so that a command loads little and starts at once. It does not know
any rule of the bank: what is allowed is decided elsewhere and only told here.
"""
