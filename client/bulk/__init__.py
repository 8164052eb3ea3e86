"""Encodes files of texts through a server: the command ``bert-serving-encode``.

Streaming, in constant memory, and restartable: what is written survives an interruption, and the
same command goes on from there. Texts and NumPy's formats need numpy and pyzmq only; Parquet needs
pyarrow and a progress bar tqdm, which are imported where they are used.
"""
