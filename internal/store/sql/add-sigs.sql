alter table ValidPaths add column sigs text
