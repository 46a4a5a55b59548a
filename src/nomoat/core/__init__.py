"""What every floor stands on: errors, records, options, the store on disk. Imports nothing of ours."""
