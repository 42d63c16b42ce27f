"""The command line: `app` has the table of commands, each command a file, imported when it is called."""
