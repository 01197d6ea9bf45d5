"""Check that the own test file of each pure module reaches all of its branches: ``python -m tests.pure_coverage``.

With ``--ignored`` it only prints what makes pytest leave those files out, since they are run here; other arguments are
pytest's. Contexts tell which test reached what, so one run of pytest answers for every module by itself: a branch that
only another module's tests reach counts as missed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from coverage import Coverage

from tests.test_house import ROOT, modules, own_test, pure_modules


def main() -> int:
    """Run the pure modules' tests under coverage and report each module; 0 when every branch is reached."""
    wanted = [module for module in pure_modules() if modules()[module].name != "__init__.py"]
    tests = {module: str(own_test(module).relative_to(ROOT)) for module in wanted if own_test(module).is_file()}
    if sys.argv[1:] == ["--ignored"]:
        print(*(f"--ignore={test}" for test in tests.values()))
        return 0
    short = [module for module in wanted if module not in tests]
    for module in short:
        print(f"{module} has no test file of its own")
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "coverage")
        options = ["-q", "--cov=fortress", "--cov-branch", "--cov-context=test", "--cov-report="]
        command = [sys.executable, "-m", "pytest", *options, *sys.argv[1:], *tests.values()]
        run = subprocess.run(command, cwd=ROOT, env={**os.environ, "COVERAGE_FILE": data}, check=False)
        if run.returncode:
            return run.returncode
        short += [module for module, test in tests.items() if branches_reached(module, test, data) < 100]
    print(f"pure modules: {len(wanted) - len(short)} of {len(wanted)} reach every branch by their own test file")
    return 1 if short else 0


def branches_reached(module: str, test: str, data: str) -> float:
    """Print what the module's own test file misses, if anything; return the percentage it reaches."""
    page = StringIO()
    coverage = Coverage(data_file=data, config_file=str(ROOT / "setup.cfg"))
    coverage.load()
    # what runs at import belongs to no test and has an empty context
    coverage.set_option("report:contexts", ["^$", "^" + re.escape(test)])
    reached = coverage.report(include=[str(modules()[module])], show_missing=True, file=page)
    if reached < 100:
        print(page.getvalue())
    return reached


if __name__ == "__main__":
    sys.exit(main())
