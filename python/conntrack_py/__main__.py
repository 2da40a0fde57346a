"""`python -m conntrack_py` is `conntrack-py`."""

from conntrack_py.cli import main

if __name__ == "__main__":
    main()
