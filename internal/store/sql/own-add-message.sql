alter table FailedPaths add column message text not null default ''
