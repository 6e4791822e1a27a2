"""The part of Detectron2's API that the project offers: names and signatures.

The same ``CONTRACT`` is checked for the built-in and for Detectron2. The other files of this folder
test the behaviour; they also run on both.
"""

import ast
import importlib
import inspect
import pkgutil
import re
from datetime import timedelta
from operator import attrgetter
from pathlib import Path

import pytest
import torch

from fsdbev.d2 import BACKEND, _builtin
from fsdbev.d2._builtin import hooks as builtin_hooks
from fsdbev.d2.engine import hooks
from fsdbev.d2.modeling import META_ARCH_REGISTRY

ROOT = Path(__file__).parents[2]
D2 = ROOT / "fsdbev" / "d2"

only_detectron2 = pytest.mark.skipif(BACKEND != "detectron2", reason="Detectron2 is not in use")

#: Callables that ``fsdbev.d2`` exports, without ``self``; ``=...`` is a default that may differ
#: between the backends. A backend may have more parameters if they have defaults.
CONTRACT = """
checkpoint.DetectionCheckpointer(model, save_dir="", *, save_to_disk=None, **checkpointables)
checkpoint.DetectionCheckpointer.save(name, **extra)
checkpoint.DetectionCheckpointer.load(path)
checkpoint.DetectionCheckpointer.resume_or_load(path, *, resume=True)
checkpoint.DetectionCheckpointer.has_checkpoint()
checkpoint.DetectionCheckpointer.get_checkpoint_file()
checkpoint.DetectionCheckpointer.get_all_checkpoint_files()
checkpoint.DetectionCheckpointer.tag_last_checkpoint(last_filename_basename)

config.LazyCall(target)
config.LazyCall.__call__(**arguments)
config.LazyConfig.load(filename, keys=None)
config.LazyConfig.load_rel(filename, keys=None)
config.LazyConfig.save(cfg, filename)
config.LazyConfig.apply_overrides(cfg, overrides)
config.LazyConfig.to_py(cfg, prefix="cfg.")
config.instantiate(cfg)

data.DatasetCatalog.register(name, func)
data.DatasetCatalog.get(name)
data.DatasetCatalog.pop(key, default=...)
data.DatasetCatalog.list()
data.DatasetCatalog.remove(name)
data.MetadataCatalog.get(name)
data.MetadataCatalog.pop(key, default=...)
data.MetadataCatalog.list()
data.MetadataCatalog.remove(name)
data.InferenceSampler(size)
data.trivial_batch_collator(batch)
data.worker_init_reset_seed(worker_id)

engine.HookBase()
engine.HookBase.before_train()
engine.HookBase.before_step()
engine.HookBase.after_backward()
engine.HookBase.after_step()
engine.HookBase.after_train()
engine.HookBase.state_dict()
engine.TrainerBase.register_hooks(hooks)
engine.TrainerBase.train(start_iter, max_iter)
engine.TrainerBase.state_dict()
engine.TrainerBase.load_state_dict(state_dict)
engine.DefaultTrainer.run_step()
engine.DefaultTrainer.state_dict()
engine.DefaultTrainer.load_state_dict(state_dict)
engine.SimpleTrainer(
    model, data_loader, optimizer, gather_metric_period=1, zero_grad_before_forward=False,
    async_write_metrics=False,
)
engine.SimpleTrainer.run_step()
engine.SimpleTrainer.reset_data_loader(data_loader_builder)
engine.SimpleTrainer.write_metrics(loss_dict, data_time, cur_iter, prefix="")
engine.AMPTrainer(
    model, data_loader, optimizer, gather_metric_period=1, zero_grad_before_forward=False,
    grad_scaler=None, precision=torch.float16, log_grad_scaler=False, async_write_metrics=False,
)
engine.AMPTrainer.run_step()
engine.create_ddp_model(model, *, fp16_compression=False, **kwargs)
engine.default_argument_parser(epilog=None)
engine.default_setup(cfg, args)
engine.default_writers(output_dir, max_iter=None)
engine.launch(
    main_func, num_gpus_per_machine, num_machines=1, machine_rank=0, dist_url=None, args=(),
    timeout=timedelta(minutes=30),
)
engine.hooks.BestCheckpointer(
    eval_period, checkpointer, val_metric, mode="max", file_prefix="model_best"
)
engine.hooks.CallbackHook(
    *, before_train=None, after_train=None, before_step=None, after_step=None
)
engine.hooks.EvalHook(eval_period, eval_function, eval_after_train=True)
engine.hooks.IterationTimer(warmup_iter=3)
engine.hooks.LRScheduler(optimizer=None, scheduler=None)
engine.hooks.LRScheduler.get_best_param_group_id(optimizer)
engine.hooks.PeriodicCheckpointer(
    checkpointer, period, max_iter=None, max_to_keep=None, file_prefix="model"
)
engine.hooks.PeriodicWriter(writers, period=20)
engine.hooks.PreciseBN(period, model, data_loader, num_iter)
engine.hooks.PreciseBN.update_stats()
engine.hooks.TorchMemoryStats(period=20, max_runs=10)
engine.hooks.TorchProfiler(
    enable_predicate, output_dir, *, activities=None, save_tensorboard=True
)

evaluation.DatasetEvaluator.reset()
evaluation.DatasetEvaluator.process(inputs, outputs)
evaluation.DatasetEvaluator.evaluate()
evaluation.DatasetEvaluators(evaluators)
evaluation.inference_context(model)
evaluation.inference_on_dataset(model, data_loader, evaluator, callbacks=None)
evaluation.print_csv_format(results)

layers.ShapeSpec(channels=None, height=None, width=None, stride=None)

modeling.META_ARCH_REGISTRY.register(obj=None)
modeling.META_ARCH_REGISTRY.get(name)

solver.LRMultiplier(optimizer, multiplier, max_iter, last_iter=-1)
solver.WarmupParamScheduler(
    scheduler, warmup_factor, warmup_length, warmup_method="linear", rescale_interval=False
)

structures.Instances(image_size, **fields)
structures.Instances.set(name, value)
structures.Instances.get(name)
structures.Instances.has(name)
structures.Instances.remove(name)
structures.Instances.get_fields()
structures.Instances.to(*args, **kwargs)
structures.Instances.cat(instance_lists)

utils.comm.all_gather(data)
utils.comm.create_local_process_group(num_workers_per_machine)
utils.comm.gather(data, dst=0)
utils.comm.get_local_rank()
utils.comm.get_local_size()
utils.comm.get_rank()
utils.comm.get_world_size()
utils.comm.is_main_process()
utils.comm.reduce_dict(input_dict, average=True)
utils.comm.shared_random_seed()
utils.comm.synchronize()

utils.events.EventStorage(start_iter=0)
utils.events.EventStorage.put_scalar(name, value, smoothing_hint=True, cur_iter=None)
utils.events.EventStorage.put_scalars(*, smoothing_hint=True, cur_iter=None, **scalars)
utils.events.EventStorage.put_image(img_name, img_tensor)
utils.events.EventStorage.put_histogram(hist_name, hist_tensor, bins=1000)
utils.events.EventStorage.clear_images()
utils.events.EventStorage.clear_histograms()
utils.events.EventStorage.step()
utils.events.EventStorage.smoothing_hints()
utils.events.EventStorage.history(name)
utils.events.EventStorage.histories()
utils.events.EventStorage.latest()
utils.events.EventStorage.latest_with_smoothing_hint(window_size=20)
utils.events.EventStorage.count_samples(name, window_size=20)
utils.events.EventStorage.name_scope(name)
utils.events.EventWriter.write()
utils.events.EventWriter.close()
utils.events.TensorboardXWriter(log_dir, window_size=20)
utils.events.get_event_storage()
utils.events.has_event_storage()

utils.file_io.PathManager.get_local_path(path)
utils.file_io.PathManager.register_handler(handler)

utils.logger.setup_logger(output=None, distributed_rank=0, *, color=True, name=...)
"""

#: Exports for hooks, models and evaluators of users, which the project itself does not call.
FOR_USERS = {
    ("evaluation", "inference_context"),
    ("utils.comm", "get_local_rank"),
    ("utils.comm", "reduce_dict"),
    ("utils.comm", "synchronize"),
}

NAMESPACE = {"torch": torch, "timedelta": timedelta}
EXPECTED = {
    path: inspect.signature(eval(f"(lambda {parameters}: None)", NAMESPACE)).parameters
    for path, parameters in re.findall(r"^([\w.]+)\((.*?)\)$", CONTRACT, re.MULTILINE | re.DOTALL)
}
MODULES = [
    ".".join(path.relative_to(D2).with_suffix("").parts)
    for path in sorted(D2.rglob("*.py"))
    if "_builtin" not in path.parts and path.stem != "__init__"
]
#: (module, name) of all exports.
EXPORTS = [
    (module, name)
    for module in MODULES
    for name in importlib.import_module(f"fsdbev.d2.{module}").__all__
]


def exported(path):
    """Returns the object at a path of the contract, such as ``engine.hooks.EvalHook``."""
    module, name = next(e for e in EXPORTS if f"{path}.".startswith(".".join(e) + "."))
    return attrgetter(path.removeprefix(f"{module}."))(
        importlib.import_module(f"fsdbev.d2.{module}")
    )


def parameters_of(function):
    parameters = list(inspect.signature(function).parameters.values())
    return parameters[1:] if parameters and parameters[0].name == "self" else parameters


def differences(expected, parameters):
    """Returns how the parameters of a function violate the contract, as sentences."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    actual = {p.name: p for p in parameters}
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    found = []
    for index, wanted in enumerate(expected.values()):
        parameter = actual.pop(wanted.name, None)
        if wanted.kind in variable:
            if not any(p.kind is wanted.kind for p in parameters):
                found.append(f"takes no {wanted}")
        elif parameter is None:
            found.append(f"has no {wanted.name}")
        elif wanted.kind is wanted.POSITIONAL_OR_KEYWORD and (
            positional[index : index + 1] != [wanted.name]
        ):
            found.append(f"{wanted.name} is not at index {index}")
        elif wanted.default is ... and parameter.default is parameter.empty:
            found.append(f"{wanted.name} has no default")
        elif wanted.default is not ... and wanted.default != parameter.default:
            found.append(f"default of {wanted.name} is {parameter.default}")
    found += [
        f"needs {p.name}"
        for p in actual.values()
        if p.default is p.empty and p.kind not in variable
    ]
    return found


@pytest.mark.parametrize("path", EXPECTED)
def test_signature(path):
    assert differences(EXPECTED[path], parameters_of(exported(path))) == []


@pytest.mark.parametrize(
    ("function", "difference"),
    [
        (lambda a, x, c=1, *, d=2, **e: 0, "has no b"),
        (lambda b, a, c=1, *, d=2, **e: 0, "a is not at index 0"),
        (lambda a, b, c=3, *, d=2, **e: 0, "default of c is 3"),
        (lambda a, b, *, c=1, d=2, **e: 0, "c is not at index 2"),
        (lambda a, b, c=1, *, d, **e: 0, "d has no default"),
        (lambda a, b, c=1, *, d=2: 0, "takes no **e"),
        (lambda a, b, c=1, *, d=2, f, **e: 0, "needs f"),
        (lambda a, b, c=1, g=7, d=2, f=3, **rest: 0, None),
    ],
)
def test_differences_of_a_signature_are_found(function, difference):
    expected = inspect.signature(lambda a, b, c=1, *, d=..., **e: 0).parameters
    found = differences(expected, parameters_of(function))
    assert found == [] if difference is None else difference in found


def test_the_contract_has_every_export():
    assert len(EXPECTED) == len(re.findall(r"^\w", CONTRACT, re.MULTILINE))  # all were parsed
    paths = {".".join(e) for e in EXPORTS}
    missing = {p for p in paths if not any(f"{line}.".startswith(f"{p}.") for line in EXPECTED)}
    assert not missing, f"exported, but not in the contract: {sorted(missing)}"


def used_in(source):
    """Yields (module, name) of the exports that a source file imports or accesses in a module."""
    tree, modules = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fsdbev.d2."):
            module = node.module.removeprefix("fsdbev.d2.")
            for alias in node.names:
                modules[alias.asname or alias.name] = f"{module}.{alias.name}"
                yield module, alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield modules.get(node.value.id), node.attr


def test_every_export_is_used():
    """By the project, its tools, configs, projects or tests other than those of this folder."""
    own = [D2, ROOT / "tests" / "d2"]
    used = set()
    for folder in ("fsdbev", "tools", "configs", "projects", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            if not any(parent in path.parents for parent in own):
                used |= set(used_in(path.read_text(encoding="utf-8")))
    unused = set(EXPORTS) - used - FOR_USERS
    assert not unused, sorted(unused)


@only_detectron2
def test_names_are_the_objects_of_detectron2():
    for module, name in EXPORTS:
        ours = exported(f"{module}.{name}")
        theirs = getattr(importlib.import_module(f"detectron2.{module}"), name, None)
        assert ours is theirs or ours.__module__.startswith(f"detectron2.{module}."), name


@only_detectron2
def test_the_builtin_offers_nothing_that_detectron2_lacks():
    """Code that runs with the built-in must run with Detectron2."""
    builtin = {}
    for module in pkgutil.iter_modules(_builtin.__path__):
        builtin |= vars(importlib.import_module(f"{_builtin.__name__}.{module.name}"))
    pairs = [(builtin[n], exported(f"{m}.{n}")) for m, n in EXPORTS if n != "hooks"]
    pairs += [(getattr(builtin_hooks, n), getattr(hooks, n)) for n in builtin_hooks.__all__]
    for ours, theirs in pairs:
        extra = {name for name in dir(ours) if not name.startswith("_")} - set(dir(theirs))
        assert not extra, f"{theirs}: {sorted(extra)}"


def test_meta_architectures_are_registered_by_name():
    class Unregistered(torch.nn.Module):
        pass

    with pytest.raises(KeyError, match="Unregistered"):
        META_ARCH_REGISTRY.get("Unregistered")
    try:
        assert META_ARCH_REGISTRY.register()(Unregistered) is Unregistered
        assert META_ARCH_REGISTRY.get("Unregistered") is Unregistered
        with pytest.raises(AssertionError, match="Unregistered"):
            META_ARCH_REGISTRY.register(Unregistered)
    finally:
        META_ARCH_REGISTRY._obj_map.pop("Unregistered", None)
