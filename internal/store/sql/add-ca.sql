alter table ValidPaths add column ca text
