pragma main.journal_mode
