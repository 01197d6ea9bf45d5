"""Run the command line as ``python -m fortress``."""

from fortress.cli.main import main

if __name__ == "__main__":
    main()
