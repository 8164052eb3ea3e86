"""Makes the training graphs that the tests of the cleanup passes read; needs TensorFlow 1.15.

``python make_training_graphs.py training`` writes ``NAME.meta``, ``.index`` and ``.data-...`` into
the directory ``training`` for each function below, and ``NAME.npz`` with the feeds and what the
outputs are at inference (``fed:TENSOR``, ``expected:TENSOR``). Every graph has been trained for a
step, so that moving averages and optimizer slots aren't what they started as.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
IDS = np.array([[1, 4], [0, 2], [3, 3]], np.int32)


def features():
    return tf.placeholder(tf.float32, [None, 4], name="x")


def optimizer(tensor):
    loss = tf.reduce_mean(tf.square(tensor - tf.placeholder(tf.float32, (), name="label")))
    tf.summary.scalar("loss", loss)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies(updates):
        return tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.create_global_step())


def dropouts(dropout):
    """Every way in which TensorFlow 1.15 is asked for dropout, without a condition."""
    x = features()
    keep = tf.placeholder(tf.float32, (), name="keep_prob")
    rate = tf.placeholder_with_default(0.3, (), name="rate")
    a = dropout(tf.layers.dense(x, 6, tf.nn.relu), rate=0.2)
    b = dropout(tf.layers.dense(a, 6), keep_prob=keep)
    c = dropout(b, rate=rate, noise_shape=[1, 6])
    d = dropout(tf.cast(c, tf.float16), rate=0.9, seed=3)
    with tf.control_dependencies([tf.Assert(tf.reduce_all(tf.math.is_finite(c)), [c])]):
        e = tf.check_numerics(tf.cast(d, tf.float32), "broken")
    out = tf.nn.softmax(tf.Print(tf.stop_gradient(e), [e], "seen"), name="out")
    train = optimizer(tf.layers.dense(out, 1))
    in_training = {"label:0": 1, "keep_prob:0": 0.5}
    return out, train, {"x:0": X}, in_training, {"keep_prob:0": 1, "rate:0": 0}


def learning_phase(dropout):
    """Batch normalization and dropout that ask a placeholder whether they are trained."""
    x = features()
    training = tf.placeholder(tf.bool, name="is_training")
    h = tf.layers.batch_normalization(x, momentum=0.5, training=training)
    h = tf.layers.dropout(tf.layers.dense(h, 5), 0.4, training=training)
    image = tf.reshape(h, [-1, 1, 1, 5])
    image = tf.layers.batch_normalization(image, momentum=0.5, fused=True, training=training)
    h = tf.reshape(image, [-1, 5])
    h = tf.cond(
        tf.logical_not(training),
        lambda: tf.cond(tf.equal(tf.constant(1), 1), lambda: h * 2.0, lambda: h - 1.0),
        lambda: h + tf.random.normal(tf.shape(h)),
    )
    out = tf.identity(h, name="out")
    in_training = {"label:0": 1, "is_training:0": True}
    return out, optimizer(out), {"x:0": X}, in_training, {"is_training:0": False}


def keras_layers(dropout):
    """Layers of tf.keras: the learning phase has a default, the variables are resources."""
    x = features()
    h = tf.keras.layers.Dropout(0.5)(tf.keras.layers.Dense(6, activation="tanh")(x))
    h = tf.keras.layers.BatchNormalization()(tf.keras.layers.GaussianNoise(1.0)(h))
    out = tf.identity(h, name="out")
    phase = tf.keras.backend.learning_phase()
    return out, optimizer(out), {"x:0": X}, {"label:0": 1, phase: True}, {phase: False}


def variables(dropout):
    """Variables of every kind: references, resources, partitioned, shared, averaged."""
    ids = tf.placeholder(tf.int32, [None, 2], name="ids")
    table = tf.get_variable("table", [5, 4], use_resource=True)
    parts = tf.get_variable(
        "parts", [6, 4], partitioner=tf.fixed_size_partitioner(2), use_resource=False
    )
    with tf.variable_scope("shared", use_resource=True):
        kernel = tf.get_variable("kernel", [4, 4])
    with tf.variable_scope("shared", reuse=True, use_resource=True):
        again = tf.get_variable("kernel")
    steps = tf.get_variable("steps", (), use_resource=False, initializer=tf.zeros_initializer())
    h = tf.nn.embedding_lookup(table, ids)
    h = tf.tensordot(tf.tensordot(h, kernel, 1), again, 1) / tf.cast(tf.shape(table)[0], tf.float32)
    h = tf.tensordot(h, tf.transpose(tf.convert_to_tensor(parts)), 1)
    with tf.control_dependencies([tf.assign_add(steps, 1.0)]):
        out = tf.add(h, steps.read_value() * 0.0, name="out")
    train = optimizer(tf.reduce_sum(out, 1))
    return out, train, {"ids:0": IDS}, {"label:0": 1}, {}


def loop(dropout):
    """A loop and a branch that depend on data, beside what can be resolved."""
    x = features()
    training = tf.placeholder_with_default(True, (), name="training")
    x = tf.cond(training, lambda: dropout(x, rate=0.5), lambda: x)
    weights = tf.get_variable("weights", [4, 4])
    _, h = tf.while_loop(
        lambda step, _: step < 3,
        lambda step, value: (step + 1, tf.tanh(value @ weights + 1.0)),
        (0, x),
    )
    out = tf.cond(tf.reduce_sum(x) > 1, lambda: h + 1.0, lambda: h * 2.0)
    out = tf.identity(out, name="out")
    in_training = {"label:0": 1, "training:0": True}
    return out, optimizer(out), {"x:0": X}, in_training, {"training:0": False}


def make(function, directory):
    name = function.__name__
    prefix = str(directory / name)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        _, train, feeds, in_training, _ = function(tf.nn.dropout)
        saver = tf.train.Saver()
        session.run(tf.global_variables_initializer())
        session.run(train, {**feeds, **in_training})
        saver.save(session, prefix, write_state=False, strip_default_attrs=True)
    # Rates that are constants can't be set from outside.
    with tf.Graph().as_default(), tf.Session() as session:
        out, _, _, _, at_inference = function(lambda x, **_: x)
        tf.train.Saver().restore(session, prefix)
        expected = session.run(out, {**feeds, **at_inference})
    arrays = {"fed:" + key: value for key, value in feeds.items()}
    np.savez(prefix + ".npz", **{"expected:" + out.name: expected}, **arrays)


if __name__ == "__main__":
    for made in (dropouts, learning_phase, keras_layers, variables, loop):
        make(made, Path(sys.argv[1]))
