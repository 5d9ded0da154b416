-- What the engine's writer and claims need at full load. Figures: CPU of a run's hot row from start to end, 34 µs before, 17 µs after.

-- A start with a key that ran out takes the key over.
grant update (execution_id, body_hash, created_at) on execution.start_keys to studios_engine;

-- How many more runs an instance takes: the others send hints only where somebody has room.
alter table execution.instances add column room int not null default 0 check (room >= 0);

-- How often in a row a run was put aside because it could not be continued: it waits longer each time.
alter table execution.runs add column asides smallint not null default 0;

-- Claims go round the companies when more is due than can be looked at, so each company's runs have to be found by themselves.
-- Those with commands are few, and found without looking at the others; the writer changes neither column at a stage.
create index runs_turns on execution.runs (company_id, run_at) where owner is null;
create index runs_commanded on execution.runs (owner, run_at) where commands_seq > commands_done;
-- The rows of a page change together, in one commit, before any of their old versions can be reused.
alter table execution.runs set (fillfactor = 40);

-- All of a company's runs and journals are found by its executions.
drop index execution.runs_company;
drop index execution.journal_company;

-- The writer says itself when it changes a row; calling a function for each cost as much as the update.
drop trigger touch on execution.runs;
create trigger touch before update on execution.runs for each row
    when (new.updated_at is not distinct from old.updated_at) execute function execution.touch_time();
drop trigger touch on execution.executions;
create trigger touch before update on execution.executions for each row
    when (new.updated_at is not distinct from old.updated_at) execute function execution.touch_time();
grant update (updated_at) on execution.executions to studios_engine;

-- The statement that ends a run takes its commands out. The foreign key looked for them once more for every run that ended; a
-- command that is left while its run ends is taken out by the upkeep.
alter table execution.execution_commands drop constraint execution_commands_execution_id_fkey;

-- The writer's plan may be made over a table that vacuum found empty. All indexes with the id in them then look equally cheap, and
-- the one that was made last is taken: it is to be the one that starts with the id.
alter table execution.executions drop constraint executions_pkey;
alter table execution.executions add constraint executions_pkey primary key (id);
