"""The monitor on a real model; the callbacks with stand-ins that have the methods of Lightning and transformers."""

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
        callback.on_after_backward(SimpleNamespace(global_step=step), net)
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
