alter table ValidPaths add column ultimate integer
