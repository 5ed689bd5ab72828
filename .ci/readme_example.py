"""Print the Python blocks of a Markdown file, one after the other, to be run as they stand."""

import re
import sys
from pathlib import Path

blocks = re.findall(r"```python\n(.*?)```", Path(sys.argv[1]).read_text(), re.DOTALL)
if not blocks:
    sys.exit("no Python block found")
sys.stdout.write("\n".join(blocks))
