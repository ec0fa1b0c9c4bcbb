#!/usr/bin/env python3
"""check_tiles.py ARCHIVE: no AMX kernel configures its tiles from the stack. gcc's intrinsic says that
it reads 8 of the 64 bytes, and the stores of the others to a local variable may be left out; only a
processor with AMX would show it. Skips (status 77) where there is no objdump of binutils."""

import re
import shutil
import subprocess
import sys

objdump = shutil.which("objdump")
if not objdump:
    print("skipped: no objdump")
    sys.exit(77)
listing = subprocess.run([objdump, "-d", "--no-show-raw-insn", sys.argv[1]], check=True, text=True,
                         capture_output=True).stdout
operands = re.findall(r"\bldtilecfg\s+(\S+)", listing)
bad = [operand for operand in operands if re.search(r"%[er][sb]p", operand)]
print(f"{len(operands)} of ldtilecfg, {len(bad)} from the stack: {' '.join(bad)}")
sys.exit(1 if bad or not operands else 0)
