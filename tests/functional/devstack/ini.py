"""iniset and inicomment as DevStack's: ini.py set FILE SECTION NAME VALUE | comment FILE SECTION NAME."""
import sys

verb, path, section, name, *value = sys.argv[1:]
with open(path) as file:
    lines = file.read().splitlines()
out, here, done = [], "", False
for line in lines + [None]:
    leaving = line is None or line.startswith("[")
    if leaving and here == section and verb == "set" and not done:
        out.append(f"{name} = {value[0]}")
        done = True
    if line is None:
        break
    if leaving:
        here = line.strip("[]")
    if here == section and line.split("=")[0].strip() == name:
        line = f"{name} = {value[0]}" if verb == "set" else "#" + line
        done = True
    out.append(line)
if verb == "set" and not done:
    out += [f"[{section}]", f"{name} = {value[0]}"]
with open(path, "w") as file:
    file.write("\n".join(out) + "\n")
