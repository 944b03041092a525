pragma main.journal_size_limit = 1099511627776
