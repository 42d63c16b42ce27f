"""No secret gets past the redactor, and it eats no hyperparameters."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcard.redact import REDACTED, Redactor
from runcard.values import plain

# Put together here, so that no scanner, ours included, takes this file for a leak.
ALNUM = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
SHAPES = {
    "aws": "AK" + "IAIOSFODNN7EXAMPL3",
    "aws session": "AS" + "IAIOSFODNN7EXAMPL3",
    "google": "AI" + "za" + "Sy" + ALNUM[:33],
    "google oauth": "ya" + "29." + ALNUM,
    "azure storage": "AStx" * 21 + "Qk" + "==",
    "azure app": "abc8" + "Q~" + ALNUM[:34],
    "github": "gh" + "p_" + ALNUM,
    "github app": "gh" + "s_" + ALNUM,
    "github fine": "github" + "_pat_" + ALNUM + "_" + ALNUM,
    "gitlab": "gl" + "pat-" + ALNUM[:20],
    "hugging face": "h" + "f_" + ALNUM[:34],
    "openai": "s" + "k-" + ALNUM,
    "openai project": "s" + "k-proj-" + ALNUM + "_" + ALNUM,
    "anthropic": "s" + "k-ant-api03-" + ALNUM,
    "slack": "xo" + "xb-123456789012-" + ALNUM,
    "stripe": "s" + "k_live_" + ALNUM,
    "jwt": "ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0In0.abc_def-ghi",
    "npm": "np" + "m_" + ALNUM,
    "pypi": "py" + "pi-AgEIcHlwaS5vcmc" + ALNUM,
    "databricks": "da" + "pi" + "0123456789abcdef" * 2,
    "vault": "hv" + "s." + ALNUM,
    "pem": "-----BEGIN PRIV" + "ATE KEY-----\nMIIE" + ALNUM + "\n" + ALNUM + "==\n-----END PRIV" + "ATE KEY-----",
    "pem cut short": "-----BEGIN PRIV" + "ATE KEY-----\\nMIIE" + ALNUM + "\\n" + ALNUM,
}  # fmt: skip
SECRET_NAMES = """
hf_token openai_key aws_access_key_id wandb_api_key apiKey x-api-key password db_password PGPASSWORD token
auth_token authToken connection_string dsn sentry_dsn session_id cookie pin card_pin client_secret
credentials hub_token TOKEN SECRET_KEY aws_secret_access_key slack_bot_token private_key passphrase
use_auth_token api_keys wandb.api_key accessToken proxy-authorization DATABASE_PASSWORD access_tokens
db_pass token_2 API_KEY_VALUE gcp_credentials auth refreshToken AccountKey userPassword smtp.password
apikey pwd
""".split()  # noqa: SIM905 - a table to read
KEPT_NAMES = """
max_tokens cls_token pad_token_id eos_token tokenizer num_tokens token_dropout num_sessions author_id key
keys key_dim query_key_value secretary passes author authority pin_memory pin_memory_device token_type_ids
special_tokens additional_special_tokens maxNewTokens image_token mask_token primary_key public_key
sort_key cache_key passthrough forward_pass authors compass tokens n_tokens prng_key key_padding_mask
token_embedding password_length session num_keys tokenization bos_token padTokenId encoder_pass sessions
attention_key session_name keyboard monkey author_email api_key_env token_count num_passes spinner mapping
s3_key basic_block autho pinned dsnet cookiecutter stop_token next_token vision_start_token_id bottleneck
data_key
""".split()  # noqa: SIM905 - a table to read
KEPT_TEXTS = [
    "0f" * 20,
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "123e4567-e89b-12d3-a456-426614174000",
    "20261123T101112-7k3f9q2m",
    "meta-llama/Llama-3.1-8B-Instruct",
    "hf_hub_download",
    "sk-learn-random-forest-classifier",
    "task-oriented-internationalization",
    "sha512-" + "A" * 86 + "==",
    "max_tokens=512, cls_token='[CLS]', num_sessions=3",
    "Unexpected token: }",
    "the pad token: [PAD]",
    "token: str = None",
    "password is required",
    "the argument --token: expected one argument",
    "Basic authentication and the Bearer of news",
    "key: value",
    "token=3, secret=0.5",
    "ssh://git@github.com/a/b.git",
    "git@github.com:a/b.git",
    "postgresql://bob@localhost/runs",
    "https://{user}:{password}@{host}/",
    "token=${HF_TOKEN}",
    "lr=0.1, keys=['a'], monkey=3",
    "parser.add_argument('--token', '-t', help='the token')",
    "option('--api-key', 'api_key')",
    "not one of ['api_key', 'password', 'lr']",
    "['--use-token', 'train.py'], ['--max-tokens', '512']",
    "the API key is missing; password is required",
    "curl https://h/x -o y; mysql --port 3306; docker run -p 8080:80 x",
    "auth=(user, word)",
    "C:/me:x@y",
    "http://h:8080/a@b",
    "C:\\data\\keys",
    "[12:30:01] step 3: loss=0.25",
    "",
]
REMOTE = "https://gh" + "p_abc:x-oauth-basic@github.com/a/b.git"
TEXTS = [
    ("password: hunter2", "password: [redacted]"),
    ("login failed for password=hunter2, user=bob", "login failed for password=[redacted], user=bob"),
    ('{"password": "hun\\"ter2", "a": 1}', '{"password": "[redacted]", "a": 1}'),
    ('"{\\"api_key\\": \\"x y\\", \\"b\\": 1}"', '"{\\"api_key\\": \\"[redacted]\\", \\"b\\": 1}"'),
    ("Config(token='abc', lr=0.1)", "Config(token='[redacted]', lr=0.1)"),
    ("run --token abc --lr 3", "run --token [redacted] --lr 3"),
    ("https://u:p@host/x?token=abc&lr=3", "https://[redacted]@host/x?token=[redacted]&lr=3"),
    ("https://h/x?sig=abcdefgh12345678&sv=1", "https://h/x?sig=[redacted]&sv=1"),
    ("https://h/x?X-Amz-Signature=abcdef&a=1", "https://h/x?X-Amz-Signature=[redacted]&a=1"),
    ("Authorization: Bearer abcdefgh", "Authorization: Bearer [redacted]"),
    ("Authorization: Basic dTpw", "Authorization: Basic [redacted]"),
    ("header Bearer abc123def456", "header Bearer [redacted]"),
    ("Cookie: a=b; c=d", "Cookie: [redacted]"),
    ("os.environ['HF_TOKEN'] = 'x'", "os.environ['HF_TOKEN'] = '[redacted]'"),
    ("postgresql://bob:p#w?@h/db", "postgresql://[redacted]@h/db"),
    ("Server=a;Uid=b;Pwd=abc;x=3", "Server=a;Uid=b;Pwd=[redacted];x=3"),
    ("AccountKey=abcdef==;EndpointSuffix=x", "AccountKey=[redacted];EndpointSuffix=x"),
    ("export API_KEY=abc", "export API_KEY=[redacted]"),
    ("assert token == 'abc123'", "assert token == '[redacted]'"),
    ("the secret='x'; pin=1234", "the secret='[redacted]'; pin=[redacted]"),
    ("host=x password=a,b user=y", "host=x password=[redacted] user=y"),
    ("machine api.wandb.ai login user password abc123def", "machine api.wandb.ai login user password [redacted]"),
    ("machine h\n  login u\n  password abc123def\n", "machine h\n  login u\n  password [redacted]\n"),
    ("Command '['x', '--token', 'abc', '-v']' failed", "Command '['x', '--token', '[redacted]', '-v']' failed"),
    ('["--hf-token", "abc"]', '["--hf-token", "[redacted]"]'),
    ("[('api_key', 'abc'), ('lr', '3')]", "[('api_key', '[redacted]'), ('lr', '3')]"),
    ("Command '['curl', '-u', 'bob:abc', 'h']' failed", "Command '['curl', '-u', '[redacted]', 'h']' failed"),
    ("curl -s --user bob:abc https://h", "curl -s --user [redacted] https://h"),
    ("sshpass -p abc ssh h", "sshpass -p [redacted] ssh h"),
    ("docker login -u me -p abc h", "docker login -u me -p [redacted] h"),
    ("mysql -u root -pabc123 db", "mysql -u root -p[redacted] db"),
    ("get(url, auth=('bob', 'abc'))", "get(url, auth=('bob', '[redacted]'))"),
    ("HTTPBasicAuth('bob', 'abc')", "HTTPBasicAuth('bob', '[redacted]')"),
    ("Incorrect API key provided: abc123def. See", "Incorrect API key provided: [redacted] See"),
    ("the password is abc123 now", "the password is [redacted] now"),
    ("invalid password 'abc123'", "invalid password [redacted]"),
    ("postgresql:/bob:abc@h/d", "postgresql:/[redacted]@h/d"),
    ("postgresql://bob:a/bc@h/d", "postgresql://[redacted]@h/d"),
    (
        "('x', '-----BEGIN PRIV" + "ATE KEY-----\\\\nMIIE" + "\\\\n-----END PRIV" + "ATE KEY-----')",
        "('x', '[redacted]')",
    ),
]


@pytest.fixture
def redactor():
    return Redactor()


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes(redactor, kind):
    """A secret is found by its shape alone, in any string, key, name, argument and file."""
    secret = SHAPES[kind]
    body = secret.split("\n")[0][-20:] if "\n" not in secret else ALNUM

    for text in (secret, f"before {secret} after", f"x={secret}", f"'{secret}'", f"({secret})", f"é{secret}é"):
        clean, found = redactor.text(text)
        assert body not in clean
        assert found >= 1
    assert body not in json.dumps(redactor.tree({"a": [{"b": secret}], secret: 1}))
    assert body not in redactor.name(f"loss {secret}")
    assert body not in str(redactor.argv(["x.py", secret, f"--x={secret}"]))
    assert redactor.scan(f"x = 1\ny = '{secret}'\n".encode())


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_secret_names(redactor, name):
    """What stands under a secret's name is replaced, as a text or as a container that holds one."""
    assert redactor.tree({name: "abcd"}) == ({name: REDACTED}, 1)
    assert redactor.tree([{name: {"a": 1, "b": ["x"]}}]) == ([{name: REDACTED}], 1)


@pytest.mark.parametrize("name", KEPT_NAMES)
def test_ordinary_names(redactor, name):
    """The names of machine learning are no secrets."""
    value = {name: "abcd"}

    assert redactor.tree(value) == (value, 0)
    assert redactor.text(f"{name}='abcd', {name}: abcd1234") == (f"{name}='abcd', {name}: abcd1234", 0)
    assert redactor.argv(["x.py", f"--{name}", "abcd"]) == (["x.py", f"--{name}", "abcd"], 0)


@pytest.mark.parametrize("text", KEPT_TEXTS)
def test_ordinary_texts(redactor, text):
    """Hashes, ids, model names, prose and placeholders stay as they are."""
    assert redactor.text(text) == (text, 0)
    assert redactor.tree({"x": text}) == ({"x": text}, 0)


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_texts(redactor, text, expected):
    """Running text loses its secrets and nothing else, and is not changed a second time."""
    clean, found = redactor.text(text)

    assert clean == expected
    assert found == expected.count(REDACTED)
    assert redactor.text(clean) == (clean, 0)


def test_numbers_stay_but_under_a_password(redactor):
    """Numbers, booleans, None and empty texts are kept under secret names; numbers not under a password or pin."""
    kept = {
        "token": 3,
        "secret": True,
        "api_key": None,
        "auth": "",
        "session_id": 1.5,
        "credentials": [1, 2],
        "key": {},
    }
    assert redactor.tree(kept) == (kept, 0)
    assert redactor.tree({"token": {"$float": "nan"}}) == ({"token": {"$float": "nan"}}, 0)

    hidden = {"password": 1234, "pin": 9, "db_pass": 1.5, "user_pin": [1]}
    assert redactor.tree(hidden) == (dict.fromkeys(hidden, REDACTED), 4)
    assert redactor.tree({"use_password": True, "password": None}) == ({"use_password": True, "password": None}, 0)


def test_lists_of_names_and_values(redactor):
    """Names and values side by side are read as pairs: `name`/`value` mappings, lists of two, `$pairs`."""
    assert redactor.tree([{"name": "HF_TOKEN", "value": "abc"}])[0] == [{"name": "HF_TOKEN", "value": REDACTED}]
    assert redactor.tree([["HF_TOKEN", "abc"], ["lr", "3"]])[0] == [["HF_TOKEN", REDACTED], ["lr", "3"]]
    assert redactor.tree(plain({1: "x", "token": "abc"}).value)[0] == {"$pairs": [[1, "x"], ["token", REDACTED]]}
    assert redactor.tree(["train", "--token", "abc"])[0] == ["train", "--token", REDACTED]


def test_references_stay(redactor):
    """A reference to where a secret is kept is no secret, and a rerun needs it."""
    assert redactor.tree({"token": "${oc.env:HF_TOKEN}"}) == ({"token": "${oc.env:HF_TOKEN}"}, 0)


def test_bytes_do_not_hide_a_secret(redactor):
    """The first bytes of a value are searched, too."""
    value = plain({"blob": SHAPES["github"].encode(), "other": b"abc"}).value

    clean, found = redactor.tree(value)

    assert (clean["blob"]["$bytes"]["head"], clean["other"], found) == (REDACTED, value["other"], 1)


def test_keys_that_become_alike(redactor):
    """Two keys that differ in their secrets alone both stay."""
    clean, found = redactor.tree({SHAPES["github"]: 1, SHAPES["github"][:-1] + "x": 2})

    assert (sorted(clean.values()), found) == ([1, 2], 2)


def test_argv(redactor):
    """Command lines lose the values of secret flags, in every way of writing them, and nothing else."""
    given = ["train.py", "--token", "abc", "--hf-token=abc", "API_KEY=abc", "--max-tokens", "5", "+wandb.api_key=zz"]
    given += ["--use-auth-token", "out", "--password", "1234", "--token", "--lr", "3", "--secret", "None", "-p", "8080"]

    clean, found = redactor.argv(given)

    hidden = [(REDACTED, "--hf-token=" + REDACTED, "API_KEY=" + REDACTED, "+wandb.api_key=" + REDACTED)]
    assert clean[:8] == [
        "train.py",
        "--token",
        hidden[0][0],
        hidden[0][1],
        hidden[0][2],
        "--max-tokens",
        "5",
        hidden[0][3],
    ]
    assert clean[8:] == ["--use-auth-token", "out", "--password", REDACTED, *given[12:]]
    assert found == 5
    assert redactor.argv(["--token", "abc", "-v"]) == (["--token", REDACTED, "-v"], 1)  # without a program
    assert redactor.tree({"extra": ["--hf-token", "abc"]}) == ({"extra": ["--hf-token", REDACTED]}, 1)


def test_argv_of_known_programs(redactor):
    """Short flags mean a password to the programs that are known for it."""
    assert redactor.argv(["/usr/bin/mysql", "-phunter2"])[0] == ["/usr/bin/mysql", "-p" + REDACTED]
    assert redactor.argv(["curl", "-u", "me:abc"])[0] == ["curl", "-u", REDACTED]
    assert redactor.argv(["curl", "-ume:abc", "--user=me:abc"])[0] == ["curl", "-u" + REDACTED, "--user=" + REDACTED]
    assert redactor.argv(["x", "token", "abc"])[0] == ["x", "token", "abc"]
    assert redactor.argv(["srun", "-p", "gpu"])[0] == ["srun", "-p", "gpu"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (REMOTE, "https://github.com/a/b.git"),
        ("https://abc@host/simple", "https://host/simple"),
        ("ssh://git@github.com/a", "ssh://git@github.com/a"),
        ("git@github.com:a/b", "git@github.com:a/b"),
        ("postgresql://a:b@h/d", "postgresql://h/d"),
        ("git+https://u:p@h/x@v1#egg=z", "git+https://h/x@v1#egg=z"),
        ("https://h/x?access_token=abc&b=1", "https://h/x?access_token=[redacted]&b=1"),
        ("/local/path", "/local/path"),
        ("wandb:me:secret@host", "wandb:host"),
        ("otlp:me:12345@host:4318", "otlp:host:4318"),
        ("mlflow:http://me:sec/ret@host:5000/x", "mlflow:http://host:5000/x"),
        ("mlflow:http://me:a secret@h", "mlflow:http://h"),
        ("mlflow:http://host:5000/a@b", "mlflow:http://host:5000/a@b"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("sqlite:///a:b@c/runs.db", "sqlite:///a:b@c/runs.db"),
        ("file:/data/a:b@c", "file:/data/a:b@c"),
        ("mlflow:./a:b@c", "mlflow:./a:b@c"),
        ("http://[::1]:4318/a@b", "http://[::1]:4318/a@b"),
    ],
)
def test_url(redactor, url, expected):
    """User information and secret query values are taken out of a URL; a user without a password stays with ssh."""
    assert redactor.url(url) == expected


def test_keep():
    """The names in ``redact_keep`` are exceptions, in trees, texts and command lines, and only they."""
    redactor = Redactor(keep=["Hub_Token"])

    assert redactor.tree({"hub_token": "abc", "token": "abc"})[0] == {"hub_token": "abc", "token": REDACTED}
    assert redactor.text("hub_token=abc token=abc1234")[0] == "hub_token=abc token=" + REDACTED
    assert redactor.argv(["x", "--hub_token", "a", "hub_token=b", "--token", "c"])[0][2:4] == ["a", "hub_token=b"]


def test_failure_hides_the_field(redactor, monkeypatch):
    """When the redactor itself fails, the whole field is hidden; a Ctrl-C goes through."""

    def broken(*_args):
        raise ValueError

    monkeypatch.setattr("runcard.redact._clean", broken)
    assert redactor.text("a=b") == (REDACTED, 1)
    assert redactor.url("https://a") == REDACTED
    monkeypatch.setattr(redactor, "_walk", broken)
    monkeypatch.setattr(redactor, "_arguments", broken)
    monkeypatch.setattr("runcard._secret_patch.shapes", broken)
    assert redactor.tree({"a": 1}) == (REDACTED, 1)
    assert redactor.argv(["a", "b"]) == ([REDACTED] * 2, 2)
    assert redactor.scan(b"abc")
    assert redactor.patch(b"diff --git a/x b/x\n") == (b"", True, [])

    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(redactor, "_walk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        redactor.tree({})


HOSTILE = {
    "one word": "a" * 1_000_000,
    "names": "token " * 170_000,
    "jwt": "eyJ" * 330_000,
    "schemes": "://a" * 250_000,
    "colons": "http://" + "a:" * 500_000,
    "equals": "a=" * 500_000,
    "open quotes": "token='" * 150_000,
    "escapes": 'token="' + '\\"' * 500_000,
    "backslashes": "token" + "\\" * 1_000_000,
    "spaces": "token" + " " * 1_000_000,
    "begins": "-----BEGIN PRIV" * 70_000,
    "keys": ("-----BEGIN PRIV" + "ATE KEY-----") * 37_000,
    "bearer": "Bearer " * 140_000,
    "commas": "token=" + ",a" * 500_000,
    "queries": "?key=" * 200_000,
    "base64": "+/" * 500_000 + "==",
    "users": "https://a:" * 100_000,
    "slashes": "@ https://a:b/" * 70_000,
    "programs": "curl -u docker login mysql sshpass " * 30_000,
    "machines": "machine a login b password " * 37_000,
    "lists": "'--token', " * 90_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_long_hostile_text_ends(redactor, name):
    """No text makes an expression go back and forth: it costs no more than eight times what half of it costs."""

    def spent(text):
        start = time.process_time()
        redactor.text(text)
        redactor.scan(text.encode())
        return time.process_time() - start

    text = HOSTILE[name][:400_000]

    assert spent(text) < 8 * max(spent(text[: len(text) // 2]), 0.05)


values = st.recursive(
    st.sampled_from([*SHAPES.values(), *KEPT_TEXTS]) | st.integers() | st.none() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SECRET_NAMES, *KEPT_NAMES, *SHAPES.values()]), inner, max_size=3)
    ),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=150, derandomize=True)
@given(values)
def test_no_secret_survives(value):
    """Wherever in a tree a secret stands, as a value or a key, it is gone, and a second pass finds nothing."""
    clean, _ = Redactor().tree(value)

    written = json.dumps(clean, ensure_ascii=False)
    assert not [kind for kind, secret in SHAPES.items() if json.dumps(secret)[1:-1] in written]
    assert ALNUM not in written
    assert Redactor().tree(clean) == (clean, 0)


def git(folder, *arguments, stdin=None):
    return subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
        input=stdin, capture_output=True, check=True,
    ).stdout  # fmt: skip


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q")
    for name in ("plain.py", "old.py", "near.py", "two words.py"):
        (tmp_path / name).write_bytes(b"".join(b"line %d\n" % i for i in range(20)))
    (tmp_path / "old.py").write_bytes(b"import x\nkey = '" + SHAPES["github"].encode() + b"'\n" + b"a\n" * 20)
    (tmp_path / "near.py").write_bytes(b"a\nPASSWORD = 'hunter2'\nb\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\r\n")
    (tmp_path / "data.bin").write_bytes(bytes(range(256)))
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def applied(repository, patch):
    """Take the working tree back to the commit and apply the patch; what the files then hold."""
    git(repository, "checkout", "-q", "--", ".")
    git(repository, "clean", "-qfd")
    git(repository, "apply", "--binary", "-", stdin=patch)
    return {path.name: path.read_bytes() for path in repository.iterdir() if path.is_file()}


def changes(repository):
    git(repository, "add", "-AN")
    return git(repository, "diff", "--binary", "HEAD")


def test_patch_without_secrets_is_untouched(redactor, repository):
    """A patch without secrets comes back byte for byte, binary hunks and odd bytes included."""
    (repository / "latin.txt").write_bytes(b"caf\xe9\r\nth\xe9\x00\r\n\xff\xfe")
    (repository / "data.bin").write_bytes(bytes(range(255, -1, -1)))
    (repository / "new.py").write_bytes(b"token = tokenizer.eos_token\npassword = getpass()\nno newline")
    patch = changes(repository)

    assert redactor.patch(patch) == (patch, False, [])
    assert redactor.patch(b"") == (b"", False, [])


def test_patch_with_secrets_in_added_lines_applies(redactor, repository):
    """Secrets in added lines are replaced line for line; the patch applies and says it is incomplete."""
    key = SHAPES["pem"].encode()
    (repository / "plain.py").write_bytes(
        b"line 0\nTOKEN = '" + SHAPES["openai"].encode() + b"'\nDB_PASSWORD=hunter2\napi_key: 'abc1234'\r\n"
        + b"caf\xe9 --- x\n++ y\n" + key + b"\nline 1\nurl = 'postgresql://a:s3cret@h/d'\n"
    )  # fmt: skip
    patch = changes(repository)

    clean, incomplete, left_out = redactor.patch(patch)
    files = applied(repository, clean)

    assert (incomplete, left_out, patch.count(b"\n")) == (True, [], clean.count(b"\n"))
    for secret in (SHAPES["openai"].encode(), b"hunter2", b"abc1234", ALNUM.encode(), b"s3cret"):
        assert secret not in clean
    lines = files["plain.py"].split(b"\n")
    assert lines[:4] == [b"line 0", b"TOKEN = '[redacted]'", b"DB_PASSWORD=[redacted]", b"api_key: '[redacted]'\r"]
    assert (lines[4:6], lines[-3]) == ([b"caf\xe9 --- x", b"++ y"], b"line 1")


def test_patch_leaves_out_files_with_old_secrets(redactor, repository):
    """A file with a secret in a context or removed line is left out, by name; the others stay and apply."""
    (repository / "old.py").write_bytes(b"import x\n" + b"a\n" * 20)
    (repository / "near.py").write_bytes(b"a\nPASSWORD = 'hunter2'\nb\nc\n")
    (repository / "two words.py").write_bytes(b"line 0\n")
    patch = changes(repository)

    clean, incomplete, left_out = redactor.patch(patch)
    files = applied(repository, clean)

    assert (incomplete, sorted(left_out)) == (True, ["near.py", "old.py"])
    assert files["two words.py"] == b"line 0\n"
    assert b"hunter2" not in clean
    assert ALNUM.encode() not in clean


def test_patch_hunk_header_with_a_secret(redactor, repository):
    """The line that git shows after a hunk's numbers is taken off when it holds a secret."""
    head = b"password = 'hunter2'\n" + b" x\n" * 30
    (repository / "near.py").write_bytes(head)
    git(repository, "commit", "-qam", "second")
    (repository / "near.py").write_bytes(head + b"y\n")
    patch = changes(repository)
    assert b"@@ password" in patch

    clean, _, left_out = redactor.patch(patch)

    assert (b"hunter2" in clean, left_out) == (False, [])
    assert applied(repository, clean)["near.py"] == head + b"y\n"


def test_patch_with_a_secret_in_a_files_name(redactor, repository):
    """A file whose name is a secret is left out, and not named."""
    (repository / SHAPES["github"]).write_bytes(b"x\n")

    clean, incomplete, left_out = redactor.patch(changes(repository))

    assert (clean, incomplete, left_out) == (b"", True, [REDACTED])


def test_patch_names_files_beyond_ascii(redactor, repository):
    """Files that are left out are named as they are called, quoted by git or not."""
    name = 'é "q" b.py'
    (repository / name).write_bytes(b"token = '" + SHAPES["github"].encode() + b"'\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "second")
    (repository / name).unlink()

    assert redactor.patch(git(repository, "diff", "HEAD"))[2] == [name]
    assert redactor.patch(git(repository, "-c", "core.quotePath=false", "diff", "HEAD"))[2] == [name]


CODE = [
    ("token = tokenizer.decode(ids)", False),
    ("def login(token: str, password: str = '') -> None:", False),
    ("password = os.environ['PASSWORD']", False),
    ("self.token = token", False),
    ("parser.add_argument('--password', help='the password')", False),
    ('labels = {"password": "a field for the password"}', False),
    ("password = 'password'", False),
    ("url = f'postgresql://{user}:{password}@{host}'", False),
    ("token = 'hello'", False),
    ("api_key = 'your-api-key'", False),
    ("password = 'hunter2'", True),
    ("client_secret: str = 'swordfish'", True),
    ("API_KEY=abcd", True),
    ("password: hunter2  # for tests", True),
    ("token = 'abc123def'", True),
    ("os.environ['HF_TOKEN'] = 'abcdefgh'", True),
    ("wandb.login(key='" + "0f" * 20 + "')", True),
    ("connect(password='hunter2')", True),
]


@pytest.mark.parametrize(("line", "secret"), CODE)
def test_source_code(redactor, line, secret):
    """In source code, expressions, signatures and placeholders are no secrets; values written out are."""
    assert redactor.scan(f"import x\n{line}\n".encode()) is secret
