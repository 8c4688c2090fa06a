"""Golden learning rates and momenta from PyTorch's own schedulers, for src/schedule.

    python3 schedules.py > schedules.json      (PyTorch 2.15)

Each case holds our schedule as its JSON form, the base learning rate, the learning rate used in each step from step 0
and, where PyTorch cycles it, the momentum. Plateau cases hold the metrics passed in and the learning rate after each.
"""
import json
import warnings

import torch
from torch.optim import SGD, lr_scheduler as lrs

warnings.simplefilter("ignore")


def optimizer(base_lr):
    return SGD([torch.zeros(1, requires_grad=True)], lr=base_lr, momentum=0.9)


def run(base_lr, make, num_steps, momentum=False):
    opt = optimizer(base_lr)
    scheduler = make(opt)
    lr, momenta = [], []
    for step in range(num_steps):
        lr.append(opt.param_groups[0]["lr"])
        momenta.append(opt.param_groups[0]["momentum"])
        opt.step()
        if step + 1 < num_steps:
            scheduler.step()
    return {"lr": lr, "momentum": momenta} if momentum else {"lr": lr}


def case(name, schedule, base_lr, make, num_steps, interval="epoch", momentum=False):
    return {
        "name": name,
        "schedule": {**schedule, "interval": interval},
        "base_lr": base_lr,
        **run(base_lr, make, num_steps, momentum),
    }


def one_cycle(name, num_steps, max_lr, total_steps, **options):
    schedule = {
        "kind": "one_cycle",
        "max_lr": max_lr,
        "total_steps": total_steps,
        "pct_start": 0.3,
        "anneal_strategy": "cos",
        "cycle_momentum": True,
        "base_momentum": 0.85,
        "max_momentum": 0.95,
        "div_factor": 25.0,
        "final_div_factor": 1e4,
        "three_phase": False,
        **options,
    }
    cycles = schedule["cycle_momentum"]
    make = lambda opt: lrs.OneCycleLR(opt, max_lr, total_steps=total_steps, **options)
    return case(name, schedule, 0.5, make, num_steps, "batch", cycles)


def sequential(name, base_lr, parts, milestones, num_steps):
    schedule = {
        "kind": "sequential",
        "schedules": [{**schedule, "interval": "epoch"} for schedule, _ in parts],
        "milestones": milestones,
    }
    make = lambda opt: lrs.SequentialLR(opt, [make(opt) for _, make in parts], milestones)
    return case(name, schedule, base_lr, make, num_steps)


def plateau(name, base_lr, metrics, **options):
    defaults = {
        "mode": "min",
        "factor": 0.1,
        "patience": 10,
        "threshold": 1e-4,
        "threshold_mode": "rel",
        "cooldown": 0,
        "min_lr": 0.0,
        "eps": 1e-8,
    }
    opt = optimizer(base_lr)
    scheduler = lrs.ReduceLROnPlateau(opt, **options)
    lr = []
    for metric in metrics:
        opt.step()
        scheduler.step(float("nan") if metric is None else metric)
        lr.append(opt.param_groups[0]["lr"])
    return {"name": name, "options": {**defaults, **options}, "base_lr": base_lr, "metrics": metrics, "lr_after": lr}


LINEAR = {"kind": "linear", "start_factor": 1 / 3, "end_factor": 1.0, "total_iters": 5}
WARM = {"kind": "linear", "start_factor": 0.1, "end_factor": 1.0, "total_iters": 4}
COSINE = {"kind": "cosine", "t_max": 6, "eta_min": 0.0}
EXPONENTIAL = {"kind": "exponential", "gamma": 0.9}
RESTARTS = {"kind": "cosine_warm_restarts", "t_0": 3, "t_mult": 2, "eta_min": 1e-5}
STEP = {"kind": "step", "step_size": 2, "gamma": 0.5}

warm = (WARM, lambda opt: lrs.LinearLR(opt, 0.1, 1.0, 4))
cosine = (COSINE, lambda opt: lrs.CosineAnnealingLR(opt, 6))
exponential = (EXPONENTIAL, lambda opt: lrs.ExponentialLR(opt, 0.9))
restarts = (RESTARTS, lambda opt: lrs.CosineAnnealingWarmRestarts(opt, 3, 2, 1e-5))
step = (STEP, lambda opt: lrs.StepLR(opt, 2, 0.5))

schedules = [
    case("step", STEP, 0.1, lambda opt: lrs.StepLR(opt, 2, 0.5), 40),
    case("step of one", {"kind": "step", "step_size": 1, "gamma": 0.7}, 0.3, lambda opt: lrs.StepLR(opt, 1, 0.7), 30),
    case("multistep", {"kind": "multi_step", "milestones": [3, 5, 5, 9], "gamma": 0.1}, 0.1,
         lambda opt: lrs.MultiStepLR(opt, [3, 5, 5, 9], 0.1), 14),
    case("exponential", {"kind": "exponential", "gamma": 0.95}, 0.1, lambda opt: lrs.ExponentialLR(opt, 0.95), 200),
    case("linear", LINEAR, 0.05, lambda opt: lrs.LinearLR(opt, 1 / 3, 1.0, 5), 9),
    case("linear down", {"kind": "linear", "start_factor": 1.0, "end_factor": 0.01, "total_iters": 37}, 0.2,
         lambda opt: lrs.LinearLR(opt, 1.0, 0.01, 37), 50),
    case("constant factor", {"kind": "constant_factor", "factor": 0.25, "total_iters": 4}, 0.1,
         lambda opt: lrs.ConstantLR(opt, 0.25, 4), 8),
    case("polynomial", {"kind": "polynomial", "total_iters": 8, "power": 2.0}, 0.1,
         lambda opt: lrs.PolynomialLR(opt, 8, 2.0), 12),
    case("polynomial of power 0.9", {"kind": "polynomial", "total_iters": 50, "power": 0.9}, 0.1,
         lambda opt: lrs.PolynomialLR(opt, 50, 0.9), 60),
    case("cosine", {"kind": "cosine", "t_max": 4, "eta_min": 0.001}, 0.1,
         lambda opt: lrs.CosineAnnealingLR(opt, 4, 0.001), 20),
    case("cosine over 100", {"kind": "cosine", "t_max": 100, "eta_min": 0.0}, 0.1,
         lambda opt: lrs.CosineAnnealingLR(opt, 100), 101),
    case("warm restarts", {"kind": "cosine_warm_restarts", "t_0": 2, "t_mult": 2, "eta_min": 0.0}, 0.1,
         lambda opt: lrs.CosineAnnealingWarmRestarts(opt, 2, 2), 40),
    case("warm restarts of one length", {"kind": "cosine_warm_restarts", "t_0": 7, "t_mult": 1, "eta_min": 0.01}, 0.1,
         lambda opt: lrs.CosineAnnealingWarmRestarts(opt, 7, 1, 0.01), 40),
    case("warm restarts, tripling", {"kind": "cosine_warm_restarts", "t_0": 1, "t_mult": 3, "eta_min": 0.01}, 0.1,
         lambda opt: lrs.CosineAnnealingWarmRestarts(opt, 1, 3, 0.01), 60),
    one_cycle("one cycle", 10, 0.1, 10),
    one_cycle("one cycle, linear", 100, 0.1, 100, anneal_strategy="linear"),
    one_cycle("one cycle, three phases", 57, 0.3, 57, three_phase=True, pct_start=0.4),
    one_cycle("one cycle, three linear phases", 20, 0.3, 20, three_phase=True, anneal_strategy="linear"),
    one_cycle("one cycle, momentum left alone", 23, 0.1, 23, cycle_momentum=False, div_factor=10.0, final_div_factor=100.0),
    one_cycle("one cycle, other momenta", 31, 0.1, 31, base_momentum=0.6, max_momentum=0.99, pct_start=0.25),
    one_cycle("one cycle, no warm-up", 10, 0.1, 10, pct_start=0.0),
    one_cycle("one cycle, only warm-up", 10, 0.1, 10, pct_start=1.0),
    one_cycle("one cycle of one step", 1, 0.1, 1),
    sequential("warm-up, cosine", 0.1, [warm, cosine], [4], 12),
    sequential("warm-up, exponential, restarts", 0.1, [warm, exponential, restarts], [4, 9], 25),
    sequential("step, cosine, step", 0.3, [step, cosine, (STEP, step[1])], [5, 8], 14),
]

flat = [1.0, 0.9, 0.89995] + [0.9] * 7
wavy = [1.0, 0.8, 0.9, 0.7, None, 0.7, 0.69, 0.6899999, 0.71, 0.7, 0.65, 0.65, 0.66, 0.65, 0.65, 0.65, 0.64]
rising = [0.1, 0.2, 0.2, 0.20001, 0.2, 0.3, 0.29, 0.3, 0.30002, 0.3, 0.3, 0.31, 0.3, 0.3, 0.3]
plateaus = [
    plateau("cooldown of one", 0.1, flat, patience=2, cooldown=1),
    plateau("defaults on a flat metric", 0.1, [1.0] * 30),
    plateau("no patience", 0.1, wavy, patience=0, factor=0.5),
    plateau("absolute threshold", 0.1, wavy, patience=1, threshold=0.02, threshold_mode="abs", factor=0.5),
    plateau("largest, relative", 0.1, rising, mode="max", patience=1, factor=0.3),
    plateau("largest, absolute", 0.1, rising, mode="max", patience=1, factor=0.3, threshold_mode="abs", threshold=0.01, cooldown=2),
    plateau("lower bound", 0.1, [1.0] * 12, patience=0, factor=0.1, min_lr=3e-4),
    plateau("cuts too small to apply", 1e-7, [1.0] * 8, patience=0, factor=0.5),
    plateau("eps larger", 0.1, [1.0] * 12, patience=0, factor=0.5, eps=0.02),
    plateau("long cooldown", 0.1, [1.0] * 20, patience=1, factor=0.5, cooldown=5),
]

print(json.dumps({"pytorch": torch.__version__, "schedules": schedules, "plateaus": plateaus}, indent=1))
