alter table FailedPaths add column log text not null default ''
