pragma main.journal_mode = truncate
