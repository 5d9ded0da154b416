-- An output that a person has to decide on: its attempt is recorded as pending, the decision is an entry of its own.

-- Every row that is there meets the wider constraint, as it met the narrower one: it need not be looked at again.
alter table execution.journal drop constraint journal_outcome_check;
alter table execution.journal add constraint journal_outcome_check
    check (outcome in ('succeeded', 'failed', 'pending')) not valid;

-- An attempt is decided once.
create unique index journal_decision_key on execution.journal (execution_id, stage, visit, item, attempt) where kind = 'decision';

-- Whoever decides sees the decision that is on its way already.
create policy see on execution.execution_commands for select to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()));
grant select on execution.execution_commands to studios_execution;
