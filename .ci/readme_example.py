"""Print the first Python block of a Markdown file, so that it can be run as it stands."""

import re
import sys
from pathlib import Path

match = re.search(r"```python\n(.*?)```", Path(sys.argv[1]).read_text(), re.DOTALL)
if match is None:
    sys.exit("no Python block found")
sys.stdout.write(match.group(1))
