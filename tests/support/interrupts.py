"""A run in a process of its own, which a test interrupts."""

#: Says "ready" when the library is imported, then tracks its argument. SIGINT is taken also where a shell started the
#: tests in the background, which ignores it.
TRACK = (
    "import signal, sys, conntrack_py as ct; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "print('ready', flush=True); print(len(ct.track(sys.argv[1]).connections))"
)
