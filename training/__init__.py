"""Everything offline: data sets, tokenizer, training, distillation, evaluation, export and publishing."""
