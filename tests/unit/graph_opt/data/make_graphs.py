"""Makes the TensorFlow graphs in ``graphs/``, with TensorFlow 1.15: ``python make_graphs.py``.

Each graph has what a training graph has: a loss, gradients, an optimizer's slots, a saver.
``values.npz`` holds "GRAPH/tensor" for the value of each variable's node, and "GRAPH:output" for
what the graph computes of X (and IDS) at inference.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function

HERE = Path(__file__).parent / "graphs"
X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
IDS = np.array([[0, 6], [3, 2], [5, 5]], np.int32)

values = {}


def keep(name, session, output, feeds):
    for variable in tf.global_variables():
        node = variable.handle.op if hasattr(variable, "handle") else variable.op
        values["%s/%s" % (name, node.name)] = session.run(variable)
    values["%s:output" % name] = session.run(output, feeds)


def train(output):
    loss = tf.reduce_mean(tf.square(output))
    tf.summary.scalar("loss", loss)
    # One variable is enough for gradients and a slot; all would make large files.
    return tf.train.MomentumOptimizer(0.1, 0.9).minimize(
        loss, tf.train.get_or_create_global_step(), tf.trainable_variables()[-1:]
    )


def save(name, output, feeds):
    """Train a step, keep the values, save."""
    step = train(output)
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(step, feeds)
        keep(name, session, output, feeds)
        saver.save(session, str(HERE / name), write_state=False)


def dense(x, width, name, **options):
    return tf.layers.dense(x, width, name=name, **options)


def variables():
    """Ref and resource variables, some shared, and an embedding in two partitions each."""
    x = tf.placeholder(tf.float32, (None, 4), "x")
    ids = tf.placeholder(tf.int32, (None, 2), "ids")
    partitioner = tf.fixed_size_partitioner(2)
    rows = []
    for kind, use_resource in (("ref", False), ("resource", True)):
        with tf.variable_scope(kind, use_resource=use_resource):
            table = tf.get_variable("table", (7, 4), tf.float32, partitioner=partitioner)
            rows.append(tf.gather(tf.convert_to_tensor(table), ids))
            x = dense(x, 4, "dense")
    x += tf.cast(tf.get_variable("half", (4,), tf.float16), tf.float32)
    shared = tf.raw_ops.VarHandleOp(
        dtype=tf.float32, shape=(4, 4), shared_name="resource/dense/kernel", name="again"
    )
    x = tf.matmul(x, tf.raw_ops.ReadVariableOp(resource=shared, dtype=tf.float32))
    output = tf.nn.softmax(x + tf.reduce_sum(rows[0] + rows[1], 1), name="probabilities")
    save("variables", output, {"x:0": X, "ids:0": IDS})


def repartitioned():
    """The same tables, whole in the checkpoint or not, read by graphs that have them otherwise."""
    for name, partitions, stored in (("whole", None, 2), ("parts", 2, None), ("other", 3, 2)):
        with tf.Graph().as_default(), tf.Session() as session:
            with tf.variable_scope("", partitioner=stored and tf.fixed_size_partitioner(stored)):
                table = tf.convert_to_tensor(tf.get_variable("table", (7, 4)))
            session.run(tf.global_variables_initializer())
            values["%s/table" % name] = session.run(table)
            tf.train.Saver().save(
                session, str(HERE / name), write_state=False, write_meta_graph=False
            )
        with tf.Graph().as_default():
            partitioner = partitions and tf.fixed_size_partitioner(partitions)
            with tf.variable_scope("", partitioner=partitioner):
                table = tf.get_variable("table", (7, 4))
            ids = tf.placeholder(tf.int32, (None, 2), "ids")
            tf.gather(tf.convert_to_tensor(table), ids, name="rows")
            tf.train.Saver().export_meta_graph(str(HERE / (name + ".meta")))


def conditional(name):
    """Dropout within a tf.cond on a learning phase, fed by an iterator as Estimators do."""
    numbers = tf.data.Dataset.from_tensor_slices({"x": X, "label": IDS[:, 0]})
    features = tf.data.make_initializable_iterator(numbers.repeat().batch(2)).get_next()
    training = tf.placeholder_with_default(False, (), "is_training")
    hidden = dense(features["x"], 3, "hidden")
    scale = tf.get_variable("scale", (3,), use_resource=True)
    hidden = tf.cond(
        training,
        lambda: tf.nn.dropout(hidden, rate=0.5) * scale,
        lambda: (hidden + 1.0) * scale,
    )
    output = tf.identity(dense(hidden, 2, "top"), "logits")
    save(name, output, {features["x"]: X})


def functions():
    """Calls within calls, results of several outputs, a branch with a call, an older function."""
    scale = tf.get_variable("scale", (2,), use_resource=True)

    @tf.function
    def pair(x):
        left, right = tf.split(x, 2, 1)
        return tf.maximum(left, right), left - right

    @tf.function
    def outer(x):
        one, two = pair(x)
        return tf.concat([one * scale, two], 1), two

    @function.Defun(tf.float32)
    def older(x):
        return tf.tanh(x)

    x = tf.placeholder(tf.float32, (None, 4), "x")
    training = tf.placeholder_with_default(False, (), "is_training")
    one, two = outer(x)
    three = tf.cond(training, lambda: two * 2.0, lambda: pair(one)[1])
    older_one = older(one)
    older_one.set_shape((None, 4))
    save("functions", tf.identity(tf.concat([older_one, two, three], 1), "y"), {x: X})


def saved_model():
    x = tf.placeholder(tf.float32, (None, 4), "x_1")
    output = tf.nn.softmax(dense(x, 2, "dense"), name="probabilities")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        keep("saved_model", session, output, {x: X})
        tf.saved_model.simple_save(session, str(HERE / "saved_model"), {"x": x}, {"scores": output})


def frozen():
    x = tf.placeholder(tf.float32, (None, 4), "x")
    constant = tf.constant(2.0, shape=(4,), name="twos")
    values["frozen:output"] = X * 2
    output = tf.multiply(x, constant, name="y")
    tf.io.write_graph(output.graph, str(HERE), "frozen.pb", as_text=False)
    tf.io.write_graph(output.graph, str(HERE), "frozen.pbtxt", as_text=True)


def main():
    tf.set_random_seed(1)
    shutil.rmtree(str(HERE), ignore_errors=True)
    HERE.mkdir()
    with tf.Graph().as_default():
        variables()
    repartitioned()
    with tf.Graph().as_default():
        conditional("cond_v1")
    with tf.Graph().as_default():
        tf.enable_control_flow_v2()
        conditional("cond_v2")
    with tf.Graph().as_default():
        functions()
    tf.disable_control_flow_v2()
    for make in (saved_model, frozen):
        with tf.Graph().as_default():
            make()
    np.savez_compressed(str(HERE / "values.npz"), X=X, IDS=IDS, **values)


if __name__ == "__main__":
    main()
