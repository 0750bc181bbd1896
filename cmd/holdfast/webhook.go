package main

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func newWebhook() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Have events sent to an address",
	}
	cmd.AddCommand(newWebhookCreate(), newWebhookList(), newWebhookDelete(), newDeadLetters(), newResend())
	return cmd
}

// webhookCall gives a command the flags that all of them have, and runs call with a client.
func webhookCall(cmd *cobra.Command, call func(*cobra.Command, holdfastv1.WebhookServiceClient, bool, []string) error) *cobra.Command {
	connected, asJSON := coordinatorFlags(cmd.Flags()), jsonFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return connected(func(c *client.Client) error {
			return callError(call(cmd, c, *asJSON, args))
		})
	}
	return cmd
}

func newWebhookCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create URL",
		Short: "Send what happens from now on; prints the secret of the signatures, once",
		Args:  arguments("URL"),
	}
	product := cmd.Flags().String("product", "", "only events of this product")
	request := cmd.Flags().String("request-id", "", "idempotency key; give the same one to repeat (default a new one)")
	return webhookCall(cmd, func(cmd *cobra.Command, client holdfastv1.WebhookServiceClient, asJSON bool, args []string) error {
		if *request == "" {
			*request = uuid.NewString()
		}
		w, err := client.CreateWebhook(cmd.Context(), &holdfastv1.CreateWebhookRequest{Url: args[0], ProductId: *product, RequestId: *request})
		if err != nil {
			return err
		}
		return printAll(cmd, asJSON, []*holdfastv1.Webhook{w}, []any{"WEBHOOK", "URL", "SECRET"}, func(w *holdfastv1.Webhook) []any {
			return []any{w.GetWebhookId(), w.GetUrl(), w.GetSecret()}
		})
	})
}

func newWebhookList() *cobra.Command {
	return webhookCall(&cobra.Command{Use: "list", Short: "List webhooks", Args: noArguments},
		func(cmd *cobra.Command, client holdfastv1.WebhookServiceClient, asJSON bool, _ []string) error {
			resp, err := client.ListWebhooks(cmd.Context(), &holdfastv1.ListWebhooksRequest{})
			if err != nil {
				return err
			}
			return printAll(cmd, asJSON, resp.GetWebhooks(), []any{"WEBHOOK", "URL", "PRODUCT"}, func(w *holdfastv1.Webhook) []any {
				return []any{w.GetWebhookId(), w.GetUrl(), w.GetProductId()}
			})
		})
}

func newWebhookDelete() *cobra.Command {
	return webhookCall(&cobra.Command{Use: "delete WEBHOOK", Short: "Send no more", Args: arguments("WEBHOOK")},
		func(cmd *cobra.Command, client holdfastv1.WebhookServiceClient, _ bool, args []string) error {
			_, err := client.DeleteWebhook(cmd.Context(), &holdfastv1.DeleteWebhookRequest{WebhookId: args[0]})
			return err
		})
}

func newDeadLetters() *cobra.Command {
	return webhookCall(&cobra.Command{Use: "dead-letters WEBHOOK", Short: "List what could not be delivered", Args: arguments("WEBHOOK")},
		func(cmd *cobra.Command, client holdfastv1.WebhookServiceClient, asJSON bool, args []string) error {
			var all []*holdfastv1.DeadLetter
			for req := (&holdfastv1.ListDeadLettersRequest{WebhookId: args[0], PageSize: 1000}); ; {
				resp, err := client.ListDeadLetters(cmd.Context(), req)
				if err != nil {
					return err
				}
				all = append(all, resp.GetDeadLetters()...)
				if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
					break
				}
			}
			return printAll(cmd, asJSON, all, []any{"EVENT", "PRODUCT", "ATTEMPTS", "LAST ERROR"}, func(d *holdfastv1.DeadLetter) []any {
				return []any{d.GetEventId(), d.GetProductId(), d.GetAttempts(), d.GetLastError()}
			})
		})
}

func newResend() *cobra.Command {
	return webhookCall(&cobra.Command{Use: "resend WEBHOOK", Short: "Try all dead letters again", Args: arguments("WEBHOOK")},
		func(cmd *cobra.Command, client holdfastv1.WebhookServiceClient, asJSON bool, args []string) error {
			resp, err := client.ResendDeadLetters(cmd.Context(), &holdfastv1.ResendDeadLettersRequest{WebhookId: args[0]})
			switch {
			case err != nil:
				return err
			case asJSON:
				return printMessage(cmd.OutOrStdout(), resp)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d events are tried again\n", resp.GetResent())
			return err
		})
}
