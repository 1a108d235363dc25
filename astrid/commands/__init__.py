"""The subcommands of `astrid`, one module each: what it takes, and the call that does it."""
