"""Which names stand for secrets: whole words of snake_case, camelCase and kebab-case, never parts of words.

Machine learning is full of tokens, keys and passes that are no credentials, so a weak word such as
``token`` counts only where the words around it do not say otherwise.
"""

from __future__ import annotations

import re

OPEN = 0  # no secret
DOUBTFUL = 1  # a secret in a configuration; in source code and prose the value has to look like one, too
SECRET = 2  # texts and containers under it are secrets, numbers and booleans are not
PASSWORD = 3  # numbers and booleans under it are secrets, too


def secrecy(name: str) -> int:
    """How secret what stands under ``name`` is: `OPEN`, `DOUBTFUL`, `SECRET` or `PASSWORD`.

    Of a dotted or slashed name the last part decides, unless an earlier one is itself a secret
    (``credentials.user``).
    """
    parts = _SEPARATOR.split(name[-_LONGEST:])
    level = OPEN
    for part in parts[:-1]:
        if _of_words(_words(part)) >= SECRET:
            level = SECRET
    return max(level, _of_words(_words(parts[-1])))


def is_switch(name: str) -> bool:
    """Whether a name reads as a yes or no (``use_auth_token``), so that no value follows it on a command line."""
    words = _words(name[-_LONGEST:])
    return len(words) > 1 and words[0] in _SWITCHES


_LONGEST = 200
_SEPARATOR = re.compile(r"[./\[\]]+(?=[^\]])")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def _words(part: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(part)]


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SWITCHES = _set("use no has is with without enable disable require requires show allow skip need needs should")
# What may follow the telling word without changing its meaning: `api_key_value`, `token_2`.
_NEUTRAL = _set(
    "value values string str text plain raw b64 base64 base encoded pem data json old new current default header backup"
)
# What makes of a secret's name a statement about it: `password_length`, `api_key_env`.
_ABOUT = _set(
    "length len size count counts policy enabled required type types path file filename dir folder env var variable"
    " min max field fields column columns name names prefix suffix format limit limits ttl expiry expires expiration"
    " timeout loss ratio rate prob probability dim dims dropout embedding embeddings strength rotation manager"
    " endpoint provider method mode backend scheme attempts retries error errors acc accuracy score"
)
_PASSWORDS = _set("password passwords passwd passwort pwd passphrase passcode pgpassword userpwd")
_STRONG = _set(
    "secret secrets credential credentials creds apikey apikeys apitoken apisecret accesskey accesstoken"
    " secretkey secretaccesskey privatekey authtoken authkey clientsecret refreshtoken sessiontoken bearertoken hftoken"
    " githubtoken ghtoken sessionid sessid phpsessid jsessionid connstr connectionstring authorization dsn jwt bearer"
    " csrfmiddlewaretoken csrftoken accountkey sharedaccesskey sharedaccesssignature"
)
_WEAK_LAST = _set("auth oauth cookie cookies")
_PASS_OWNERS = _set(
    "db database user smtp ftp sftp imap mysql pg postgres postgresql redis mongo mongodb admin root email mail"
    " login http https proxy ssh my api rabbitmq vpn ldap es sql broker"
)
_PIN_OWNERS = _set("user card sim security login my account device bank access debit credit atm")
_KEY_OWNERS = _set(
    "api access private secret openai anthropic claude hf huggingface hub aws gcp azure google gemini wandb wb github"
    " gitlab git stripe encryption encrypt decryption signing ssh service account storage subscription auth license"
    " master app application cohere mistral groq neptune comet mlflow clearml together replicate pinecone serper tavily"
    " langsmith langchain langfuse sendgrid twilio slack datadog dd deploy shared admin client"
    " xai deepseek perplexity fireworks openrouter voyage jina nvidia ngc kaggle roboflow labelbox session webhook"
    " consumer jwt hmac pgp gpg tls ssl rsa"
)
_TOKEN_OWNERS = _set(
    "api access auth bearer refresh session hf huggingface hub github gh gitlab git slack bot oauth personal deploy"
    " wandb aws azure gcp google npm pypi security service csrf xsrf jwt user id secret login account admin client app"
    " telegram discord sas vault kaggle dagshub neptune comet mlflow databricks replicate"
)
# A `token` after one of these is a piece of text, not a pass.
_TEXT_TOKENS = _set(
    "max min num n cls pad eos bos sep mask unk image img vision video audio speech special start end stop first last"
    " next prev previous per total prompt completion input output new added extra mean avg average text word sub"
    " subword class reg register dist distill distillation query patch time chunk boi eoi bov eov eot sot eom sos"
    " decoder encoder forced suppress begin begins think thinking reasoning cached cache context global local latent"
    " memory batch train trained training eval seen target source src tgt fim prefix suffix middle soft virtual visual"
    " trigger placeholder control task lang language fake rare common unknown padding masked mask separator"
    " byte char character blank null empty each every single one two trainable learnable learned position pos drop"
    " kept keep pruned merge merged label answer question doc document sentence segment newline space frame motion"
    " concept identifier modality action state reward return expert shared router top bottom"
)


def _of_words(words: list[str]) -> int:
    if words[-2:] in (["connection", "string"], ["conn", "string"], ["conn", "str"]):
        return SECRET
    while len(words) > 1 and (words[-1] in _NEUTRAL or words[-1].isdigit()):
        words = words[:-1]
    if not words or words[-1] in _ABOUT:
        return OPEN
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    for index, word in enumerate(words):
        if word in _PASSWORDS or word.endswith(("password", "passwd")):
            return SECRET if words[0] in _SWITCHES else PASSWORD
        if word in _STRONG and (index == len(words) - 1 or word in ("secret", "secrets", "apikey", "accesskey")):
            return SECRET
        if word in ("credential", "credentials", "creds"):
            return SECRET
    if last in ("pass", "pw"):
        return PASSWORD if before in _PASS_OWNERS else DOUBTFUL if not before else OPEN
    if last == "pin" or words[-2:] in (["pin", "code"], ["pin", "number"]):
        owner = before if last == "pin" else words[-3] if len(words) > 2 else ""
        return PASSWORD if not owner or owner in _PIN_OWNERS else OPEN
    if last in ("key", "keys"):
        return SECRET if before in _KEY_OWNERS else OPEN
    if last == "id" and before in ("key", "session"):
        return SECRET if before == "session" or (len(words) > 2 and words[-3] in _KEY_OWNERS) else OPEN
    if last == "token":
        return _token(words)
    if last == "tokens":
        return SECRET if before in _TOKEN_OWNERS - _TEXT_TOKENS else OPEN
    if last in _WEAK_LAST:
        return DOUBTFUL if len(words) == 1 or words[0] in _SWITCHES else SECRET
    return SECRET if words[-2:] == ["seed", "phrase"] or last in ("otp", "totp") else OPEN


def _token(words: list[str]) -> int:
    if len(words) == 1:
        return DOUBTFUL
    if words[-2] in _TOKEN_OWNERS:
        return SECRET
    return OPEN if any(word in _TEXT_TOKENS for word in words[:-1]) else SECRET
