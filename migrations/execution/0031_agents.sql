-- A private workflow is seen by its owner alone, and its runs by who started them: what an agent session runs is one. It is reached
-- by what it belongs to and never by itself.
alter table execution.workflows add column private boolean not null default false;
create index workflows_private on execution.workflows (id) where private;
grant insert (private) on execution.workflows to studios_execution;
create policy private on execution.workflows as restrictive to studios_execution
    using (not private or owner_id = (select execution.caller_id()))
    with check (not private or owner_id = (select execution.caller_id()));

create function execution.is_private(workflow uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
    return exists (select from execution.workflows w where w.id = workflow and w.private);
end $$;
create policy private on execution.executions as restrictive for select to studios_execution
    using (started_by = (select execution.caller_id()) or not execution.is_private(workflow_id));

-- Who asked is told of its failure where he asked; the company is not.
create or replace function execution.notice_failure() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    if execution.is_private(new.workflow_id) then
        return null;
    end if;
    insert into execution.notices (id, company_id, topic, data, users, occurred_at)
    values (md5('execution.failed ' || new.id)::uuid, new.company_id, 'execution.failed',
        execution.notice_of(new.id) || jsonb_build_object('failure_class', new.failure_class), array[new.started_by],
        new.finished_at)
    on conflict do nothing;
    return null;
end $$;

-- Agent sessions: conversations that work on a studio's documents and remember. A session is its owner's alone; what it runs is the
-- private workflow with its id, with which it is erased. scale is how the model's tokens are to the estimate, in thousandths.
create table execution.agent_sessions (
    id uuid primary key,
    company_id uuid not null,
    studio_id uuid not null,
    owner_id uuid not null,
    title text not null check (char_length(title) <= 200),
    model text not null check (char_length(model) between 1 and 100),
    scale int not null default 1000 check (scale between 250 and 8000),
    requests int not null default 0 check (requests >= 0),
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (company_id, id),
    foreign key (company_id, id) references execution.workflows (company_id, id) on delete cascade
);
create index agent_sessions_owner on execution.agent_sessions (company_id, studio_id, owner_id, id);
create trigger touch before update on execution.agent_sessions for each row execute function execution.touch();

alter table execution.agent_sessions enable row level security, force row level security;
create policy owner on execution.agent_sessions to studios_owner using (true) with check (true);
create policy own on execution.agent_sessions to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio())
        and owner_id = (select execution.caller_id()))
    with check (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio())
        and owner_id = (select execution.caller_id()));
grant select, delete on execution.agent_sessions to studios_execution;
grant insert (id, company_id, studio_id, owner_id, title, model) on execution.agent_sessions to studios_execution;
grant update (title, scale, requests) on execution.agent_sessions to studios_execution;

-- Requests, numbered from 1 in their session, of which one is open at a time. Each runs as an execution, once more with every retry;
-- what came of that is put here once it has ended, and read from it until then. folds are the summaries that it makes first:
-- folded[i] is the last request that the i-th covers. Tokens and cost are those of all its executions.
create table execution.agent_requests (
    id uuid primary key,
    company_id uuid not null,
    session_id uuid not null,
    number int not null check (number > 0),
    kind text not null check (kind in ('create', 'edit', 'research')),
    content text not null check (char_length(content) between 1 and 32000),
    document_ids uuid[] not null check (cardinality(document_ids) <= 50),
    execution_id uuid not null,
    attempts smallint not null default 1 check (attempts > 0),
    folded int[] not null,
    status text not null default 'open' check (status in ('open', 'completed', 'failed', 'cancelled')),
    results jsonb check (jsonb_typeof(results) = 'object'),
    failure_class text check (failure_class in ('validation', 'provider_error', 'rate_limit', 'timeout', 'capped')),
    failure_message text not null default '',
    input_tokens bigint not null default 0 check (input_tokens >= 0),
    output_tokens bigint not null default 0 check (output_tokens >= 0),
    cost_micros bigint not null default 0 check (cost_micros >= 0),
    feedback text check (feedback in ('up', 'down')),
    feedback_note text not null default '' check (char_length(feedback_note) <= 2000),
    revision bigint not null default 1,
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (company_id, id),
    constraint agent_requests_number unique (company_id, session_id, number),
    foreign key (company_id, session_id) references execution.agent_sessions (company_id, id) on delete cascade,
    check ((status = 'completed') = (results is not null)),
    check ((status = 'open') = (ended_at is null))
);
create unique index agent_requests_open on execution.agent_requests (company_id, session_id) where status = 'open';
create trigger touch before update on execution.agent_requests for each row execute function execution.touch();

alter table execution.agent_requests enable row level security, force row level security;
create policy owner on execution.agent_requests to studios_owner using (true) with check (true);
create policy own on execution.agent_requests to studios_execution
    using (company_id = (select execution.caller_company())
        and exists (select from execution.agent_sessions s where s.company_id = agent_requests.company_id
            and s.id = agent_requests.session_id))
    with check (company_id = (select execution.caller_company())
        and exists (select from execution.agent_sessions s where s.company_id = agent_requests.company_id
            and s.id = agent_requests.session_id));
grant select, delete on execution.agent_requests to studios_execution;
grant insert (id, company_id, session_id, number, kind, content, document_ids, execution_id, folded)
    on execution.agent_requests to studios_execution;
grant update (execution_id, attempts, folded, status, results, failure_class, failure_message, input_tokens, output_tokens,
    cost_micros, feedback, feedback_note, started_at, ended_at) on execution.agent_requests to studios_execution;

-- What stands for the oldest requests of a session: through is the last one that it covers.
create table execution.agent_summaries (
    company_id uuid not null,
    session_id uuid not null,
    through int not null check (through > 0),
    text text not null check (text <> ''),
    created_at timestamptz not null default now(),
    primary key (company_id, session_id, through),
    foreign key (company_id, session_id) references execution.agent_sessions (company_id, id) on delete cascade
);
alter table execution.agent_summaries enable row level security, force row level security;
create policy owner on execution.agent_summaries to studios_owner using (true) with check (true);
create policy own on execution.agent_summaries to studios_execution
    using (company_id = (select execution.caller_company())
        and exists (select from execution.agent_sessions s where s.company_id = agent_summaries.company_id
            and s.id = agent_summaries.session_id))
    with check (company_id = (select execution.caller_company())
        and exists (select from execution.agent_sessions s where s.company_id = agent_summaries.company_id
            and s.id = agent_summaries.session_id));
grant select on execution.agent_summaries to studios_execution;
grant insert (company_id, session_id, through, text) on execution.agent_summaries to studios_execution;

-- What a request proposes: a new document, or another text of one. base is the SHA-256 of the text that it is made of. Who accepts
-- claims it first: until it is accepted, whatever was made for that is made again under the same key, and nobody rejects it.
create table execution.agent_proposals (
    company_id uuid not null,
    request_id uuid not null,
    document_id uuid,
    title text not null check (char_length(title) between 1 and 255),
    base bytea check (octet_length(base) = 32),
    diff text not null,
    text text not null check (text <> ''),
    decision text check (decision in ('accepting', 'accepted', 'rejected')),
    made_document_id uuid,
    file_id uuid,
    file_version int,
    decided_at timestamptz,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (company_id, request_id),
    foreign key (company_id, request_id) references execution.agent_requests (company_id, id) on delete cascade,
    check ((document_id is null) = (base is null)),
    check ((decision = 'accepted') = (made_document_id is not null))
);
create trigger touch before update on execution.agent_proposals for each row execute function execution.touch();
alter table execution.agent_proposals enable row level security, force row level security;
create policy owner on execution.agent_proposals to studios_owner using (true) with check (true);
create policy own on execution.agent_proposals to studios_execution
    using (company_id = (select execution.caller_company())
        and exists (select from execution.agent_requests r where r.company_id = agent_proposals.company_id
            and r.id = agent_proposals.request_id))
    with check (company_id = (select execution.caller_company())
        and exists (select from execution.agent_requests r where r.company_id = agent_proposals.company_id
            and r.id = agent_proposals.request_id));
grant select on execution.agent_proposals to studios_execution;
grant insert (company_id, request_id, document_id, title, base, diff, text) on execution.agent_proposals to studios_execution;
grant update (decision, made_document_id, file_id, file_version, decided_at) on execution.agent_proposals to studios_execution;

-- Where a session and a request are, before the caller's place there is known: ids only.
create function execution.locate_agent_session(session uuid) returns table (company_id uuid, studio_id uuid)
language plpgsql stable security definer set search_path = ''
as $$ begin return query select s.company_id, s.studio_id from execution.agent_sessions s where s.id = session; end $$;
create function execution.locate_agent_request(request uuid) returns table (company_id uuid, studio_id uuid)
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select s.company_id, s.studio_id
    from execution.agent_requests r join execution.agent_sessions s on s.company_id = r.company_id and s.id = r.session_id
    where r.id = request;
end $$;
revoke execute on function execution.is_private(uuid), execution.locate_agent_session(uuid), execution.locate_agent_request(uuid)
    from public;
grant execute on function execution.is_private(uuid), execution.locate_agent_session(uuid), execution.locate_agent_request(uuid)
    to studios_execution;
