"""The monitor on a real model; the callbacks with stand-ins that have the methods of Lightning and transformers, and in
real trainings where those are installed."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

import finitewidth as fw  # noqa: E402


def model():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def expected(net, x):
    z = net[0](x)
    return {
        "preactivation/0": float(z.square().mean().detach()),
        "gradient/2": float(net[2].weight.grad.square().mean()),
    }


def stand_in(monkeypatch, module, **content):
    monkeypatch.setitem(sys.modules, module.partition(".")[0], ModuleType(module.partition(".")[0]))
    made = ModuleType(module)
    made.__dict__.update(content)
    monkeypatch.setitem(sys.modules, module, made)


def test_monitor_measures_and_stops():
    net, x = model(), torch.rand(5, 3)
    monitor = fw.torch.SignalMonitor(net)
    net(x).sum().backward()
    seen = monitor.measured()
    assert {k: seen[k] for k in ("preactivation/0", "gradient/2")} == pytest.approx(expected(net, x))
    assert set(seen) == {"preactivation/0", "preactivation/2", "gradient/0", "gradient/2"}
    monitor.close()
    net(100 * x)
    assert monitor.measured()["preactivation/0"] == seen["preactivation/0"]
    with pytest.raises(fw.InputError, match="nothing to watch"):
        fw.torch.SignalMonitor(torch.nn.ReLU())


def test_lightning_logs_every_nth_step(monkeypatch):
    stand_in(monkeypatch, "lightning.pytorch", Callback=object)
    callback = fw.torch.lightning_callback(every_n_steps=2)
    net, logged = model(), []
    net.log_dict = logged.append
    callback.on_train_start(SimpleNamespace(global_step=0), net)
    for step in range(4):
        net(torch.rand(5, 3)).sum().backward()
        callback.on_before_optimizer_step(SimpleNamespace(global_step=step), net, None)
    callback.on_train_end(None, net)
    assert len(logged) == 2 and "signals/gradient/0" in logged[0]
    assert not net[0]._forward_hooks


def test_trainer_logs_through_the_trainer(monkeypatch):
    stand_in(monkeypatch, "transformers", TrainerCallback=object)
    net, logged = model(), []
    callback = fw.torch.trainer_callback(SimpleNamespace(log=logged.append), every_n_steps=3)
    callback.on_train_begin(None, None, None, model=net)
    for step in range(4):
        net(torch.rand(5, 3)).sum().backward()
        callback.on_pre_optimizer_step(None, SimpleNamespace(global_step=step), None)
    callback.on_train_end(None, None, None)
    assert len(logged) == 2 and "signals/preactivation/2" in logged[1]


def test_without_the_framework_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install transformers"):
        fw.torch.trainer_callback(None)


class Rows(torch.utils.data.Dataset):
    """16 rows of 3 inputs and a target."""

    def __len__(self):
        return 16

    def __getitem__(self, i):
        return {"x": torch.full((3,), i / 16), "labels": torch.ones(2)}


class Regression(torch.nn.Module):
    """A model with the signature that the Trainer of Hugging Face wants."""

    def __init__(self):
        super().__init__()
        self.net = model()

    def forward(self, x, labels):
        return {"loss": (self.net(x) - labels).square().mean()}


NAMES = {f"signals/{what}/net.{i}" for what in ("preactivation", "gradient") for i in (0, 2)}


def lightning_fit(module, callback):
    """Every dictionary that the trainer logs in one training."""
    lightning = pytest.importorskip("lightning.pytorch")
    logged = []

    class Logger(pytest.importorskip("lightning.pytorch.loggers").Logger):
        name, version = "kept", 0

        def log_hyperparams(self, *args, **kwargs):
            pass

        def log_metrics(self, metrics, step):
            logged.append(metrics)

    trainer = lightning.Trainer(
        max_epochs=1, accumulate_grad_batches=2, accelerator="cpu", logger=Logger(), callbacks=[callback],
        log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(Rows(), batch_size=2))
    return [metrics for metrics in logged if any(name.startswith("signals/") for name in metrics)]


def lightning_module(seen, fails_at=None):
    class Module(pytest.importorskip("lightning.pytorch").LightningModule):
        def __init__(self):
            super().__init__()
            self.net = model()

        def training_step(self, batch, i):
            if i == fails_at:
                raise RuntimeError("stop")
            return Regression.forward(self, **batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def on_before_optimizer_step(self, optimizer):
            seen.append(float(self.net[0].weight.grad.square().mean()))

    return Module()


@pytest.mark.filterwarnings("ignore")
def test_lightning_itself_logs_complete_gradients():
    seen = []
    module = lightning_module(seen)
    logged = lightning_fit(module, fw.torch.lightning_callback(every_n_steps=1))
    assert len(logged) == len(seen) == 4 and set(logged[0]) >= NAMES
    # of both accumulated batches, as the optimizer is about to use them
    assert [row["signals/gradient/net.0"] for row in logged] == pytest.approx(seen)
    assert not module.net[0]._forward_hooks


@pytest.mark.filterwarnings("ignore")
def test_lightning_that_fails_leaves_no_hooks():
    module = lightning_module([], fails_at=1)
    with pytest.raises(RuntimeError, match="stop"):
        lightning_fit(module, fw.torch.lightning_callback())
    assert not module.net[0]._forward_hooks


@pytest.mark.filterwarnings("ignore")
def test_trainer_itself_logs(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    if not transformers.utils.is_torch_available():
        pytest.skip("this version of transformers asks for a newer PyTorch")
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=4, per_device_train_batch_size=2, gradient_accumulation_steps=2, report_to=[],
        use_cpu=True, save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    net = Regression()
    trainer = transformers.Trainer(net, arguments, train_dataset=Rows())
    trainer.add_callback(fw.torch.trainer_callback(trainer, every_n_steps=2))
    trainer.train()
    logged = [row for row in trainer.state.log_history if "signals/gradient/net.0" in row]
    assert [row["step"] for row in logged] == [0, 2] and set(logged[0]) >= NAMES
    assert all(row["signals/gradient/net.2"] > 0 for row in logged)
    assert not net.net[0]._forward_hooks


def test_watching_changes_no_parametrized_weight():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 40)), torch.nn.Linear(40, 1)
    )
    monitor = fw.torch.SignalMonitor(net)
    net(torch.rand(5, 3)).sum().backward()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    assert set(monitor.measured()) == {"preactivation/0", "preactivation/1", "gradient/1"}
    assert before and all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
