"""What is run while it is killed: small runs of all stages on the bundled pair."""

RECIPES = {
    "quickstart": """
teacher: bundled:teacher
student: bundled:student
control: true
prompts: {dataset: 'bundled:problems', limit: 200}
rollouts: {num_samples: 8, max_new_tokens: 96, prompts_per_part: 8, batch_tokens: 16384}
warmup: {beta: 2.0, learning_rate: 1.0e-4, per_device_train_batch_size: 16, save_steps: 5}
distill:
  learning_rate: 3.0e-4
  per_device_train_batch_size: 8
  max_length: 256
  num_train_epochs: 2
  save_steps: 5
evaluate:
  benchmarks:
    - {name: problems, dataset: 'bundled:problems', split: test, limit: 200}
""",
    "everything": """
teacher: bundled:teacher
student: bundled:teacher
control: true
prompts: {dataset: 'bundled:problems', limit: 120}
cut:
  keep_layers: [0, 1, 3]
  completions: {source: teacher, max_new_tokens: 96}
  learning_rate: 1.0e-3
  per_device_train_batch_size: 8
  num_train_epochs: 4
  save_steps: 5
rollouts: {num_samples: 4, max_new_tokens: 96, prompts_per_part: 8, batch_tokens: 16384}
warmup:
  beta: 2.0
  learning_rate: 1.0e-3
  per_device_train_batch_size: 16
  lora: {r: 8, target_modules: [q_proj, v_proj]}
  save_steps: 5
distill:
  objective: taid
  teacher_signal: hidden
  completions: {source: teacher, max_new_tokens: 96}
  lora: {r: 8, target_modules: [q_proj, v_proj, up_proj]}
  learning_rate: 1.0e-3
  per_device_train_batch_size: 8
  num_train_epochs: 3
  save_steps: 5
evaluate:
  benchmarks:
    - {name: problems, dataset: 'bundled:problems', split: test, limit: 120}
""",
}
