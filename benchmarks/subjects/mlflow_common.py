"""MLflow on one of its stores."""

from __future__ import annotations


class Common:
    synchronous = True

    def __init__(self, uri):
        import mlflow

        mlflow.set_tracking_uri(uri)
        found = mlflow.get_experiment_by_name("bench")
        self.experiment = found.experiment_id if found else mlflow.create_experiment("bench")

    def run(self, config, body, final):
        import mlflow

        wait = self.synchronous
        with mlflow.start_run(experiment_id=self.experiment):
            mlflow.log_params(config)
            body(lambda metrics, step: mlflow.log_metrics(metrics, step=step, synchronous=wait))
            mlflow.log_metrics(final, synchronous=wait)
            if not wait:
                mlflow.flush_async_logging()

    def recovered(self):
        import mlflow

        client = mlflow.MlflowClient()
        run = client.search_runs([self.experiment])[0]
        return len(client.get_metric_history(run.info.run_id, "loss")), run.info.status

    def query(self):
        import mlflow

        client = mlflow.MlflowClient()
        found, token = [], None
        while True:
            page = client.search_runs(
                [self.experiment], order_by=["metrics.loss ASC"], max_results=5_000, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found
