"""From a URL to a served model: how a server is reached, and what is found out about it before anything is asked."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from foreshock.errors import InputError
from foreshock.jobs.engines.endpoint.behaviour import judge_behaviour
from foreshock.jobs.engines.endpoint.chat import probe_question
from foreshock.jobs.engines.endpoint.http import EndpointClient, RefusedError
from foreshock.jobs.engines.endpoint.identity import ServedModel, Watch, choose_model, fill_placeholders, read_models
from foreshock.jobs.engines.endpoint.probe import probe_generation
from foreshock.jobs.engines.endpoint.served import Served
from foreshock.jobs.model_files.fingerprint import stated_vocab_size
from foreshock.jobs.prompts.tokenizer import Tokenizer
from foreshock.jobs.records.spec import Checkpoint


@dataclass(frozen=True)
class Connection:
    """The engine's options that say how a checkpoint's server is reached; see `OpenAIEngine`. path: of the protocol."""

    base_url: str
    model: str | None
    path: str
    api_key_env: str
    concurrency: int
    timeout_s: float
    retries: int
    backoff_s: float
    identity_interval_s: float

    async def connect(self, checkpoint: Checkpoint) -> EndpointClient:
        """A client of the checkpoint's server; nothing is asked yet."""
        return EndpointClient(
            fill_placeholders(self.base_url, checkpoint),
            os.environ.get(self.api_key_env) or None,
            self.concurrency,
            self.timeout_s,
            self.retries,
            self.backoff_s,
        )

    async def listed(self, client: EndpointClient, checkpoint: Checkpoint) -> ServedModel:
        """The entry of the server's model list that is the checkpoint. Raises InputError, WrongModelError."""
        wanted = None if self.model is None else fill_placeholders(self.model, checkpoint)
        try:
            models = await client.get("models", read_models)
        except RefusedError as error:
            raise InputError(
                f"{client.base_url}/models: {error}; the model behind the URL cannot be told",
                fix="give the URL up to and with /v1",
            ) from None
        return choose_model(models, wanted, checkpoint, client.base_url)

    async def recognise(self, client: EndpointClient, checkpoint: Checkpoint, tokenizer: Tokenizer) -> Served:
        """What the server can do, by what it did. Raises InputError for one that cannot be used."""
        model = await self.listed(client, checkpoint)
        asked = probe_question(tokenizer, self.path)
        abilities = await probe_generation(client, self.path, model.id, asked)
        behaviour = await judge_behaviour(
            client,
            self.path,
            model.id,
            asked,
            tokenizer,
            wide=abilities.wide,
            logprobs=abilities.distribution is not None,
        )
        abilities = replace(abilities, behaviour=behaviour)
        watch = Watch(client, model, abilities, self.path, self.identity_interval_s)
        client.on_fault = watch.fault
        vocab_size = stated_vocab_size(checkpoint.path) or len(tokenizer)
        return Served(client, model, abilities, watch, tokenizer, vocab_size, asked)
