"""The shop itself."""

VERSION = 1  # /debug/pid shows it; tests of reloads change this line
